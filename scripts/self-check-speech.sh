#!/usr/bin/env bash
# Decodes the recorded sentence that the self-check speaks, once, and prints where it lies. Without
# the recording it prints nothing, and the program speaks a sample of its model store instead.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

recording=/usr/share/asterisk/sounds/en_US_f_Allison/queue-youarenext.g722
speech="$CACHE/self-check-speech.wav"
if [ ! -s "$speech" ]; then
    [ -e "$recording" ] || exit 0
    mkdir -p "$CACHE"
    ffmpeg -v error -nostdin -y -f g722 -i "$recording" -f wav "$speech.part"
    mv "$speech.part" "$speech"
fi
printf '%s\n' "$speech"
