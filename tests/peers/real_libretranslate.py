"""The real LibreTranslate, as it comes from its package, except that sentences are split at their
full stops: its own splitter is a model that it would download.
"""

import re

from argostranslate import sbd
from libretranslate.main import main


class Splitter:
    def __init__(self, package):
        self.package = package

    def split_sentences(self, text: str) -> list[str]:
        return [sentence for sentence in re.split(r"(?<=[.!?])\s+", text) if sentence]


if __name__ == "__main__":
    sbd.MiniSBDSentencizer = Splitter
    # Imported by name before this file ran.
    from argostranslate import translate

    translate.MiniSBDSentencizer = Splitter
    main()
