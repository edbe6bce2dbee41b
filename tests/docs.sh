#!/usr/bin/env bash
# Every long option that `PROGRAM --help` lists is in its manual page and its completion, and the other way round: tests/docs.sh PROGRAM
set -euo pipefail
program=$(readlink -f "$1")
name=$(basename "$1")
cd "$(dirname "$(readlink -f "$0")")/.."

long_options() { grep -oE -- '--[a-z][a-z0-9-]*' | sort -u; }
# Where an option is explained its name stands at the beginning of the line; elsewhere it may be another program's.
explained() { grep -E '^ *-' | sed -E 's/^ *((-[^ ]*[, ]+)*-[^ ]*).*/\1/' | long_options; }
in_manual() { mandoc -T ascii -O width=1000 "man/$name.1" | sed 's/.\x08//g' | explained; }
in_completion() { sed 's/#.*//' "completions/$name.bash" | long_options; }

if [ ! -e "man/$name.1" ] && [ ! -e "completions/$name.bash" ]; then
  echo "skipped: neither man/$name.1 nor completions/$name.bash to compare --help with"
  exit 77
fi
if ! command -v mandoc >/dev/null; then
  echo "skipped: mandoc is not installed (scripts/setup test)"
  exit 77
fi
help=$("$program" --help | explained) || { echo "$program --help fails, or lists no option"; exit 1; }

differences=0
compare()
{
  local place=$1 options=$2 found
  found=$(diff <(echo "$help") <("$options")) && return
  sed -nE "s/^< (.*)/\1 is in --help but not in $place/p; s/^> (.*)/\1 is in $place but not in --help/p" <<<"$found"
  differences=$((differences + 1))
}

if [ -e "completions/$name.bash" ]; then compare "the completion" in_completion; fi
if [ -e "man/$name.1" ]; then compare "the manual page" in_manual; fi
[ $differences -eq 0 ]
