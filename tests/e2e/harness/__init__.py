"""The independent side of the end-to-end tests: nothing here shares code with the server.

prompts     recorded sentences with their texts and reference translations
signals     sounds that are not speech
peer        a caller on aiortc that notes when each packet left and arrived
server      starts the program and speaks its HTTP API
events      the room's event stream, as a client sees it
turn        a TURN server
call        one whole call: what was said, heard and told
recogniser  faster-whisper on the same weights file
scoring     word error rate and chrF on normalised text
"""
