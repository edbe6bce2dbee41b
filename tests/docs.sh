#!/usr/bin/env bash
# Every long option that `PROGRAM --help` lists is in the manual page and in the completion, and the other way round: tests/docs.sh PROGRAM
set -euo pipefail
program=$(readlink -f "$1")
cd "$(dirname "$(readlink -f "$0")")/.."

long_options() { grep -oE -- '--[a-z][a-z0-9-]*' | sort -u; }
# Where an option is explained its name stands at the beginning of the line; elsewhere it may be another program's.
explained() { grep -E '^ *-' | sed -E 's/^ *((-[^ ]*[, ]+)*-[^ ]*).*/\1/' | long_options; }
in_help() { "$program" --help | explained; }
in_manual() { mandoc -T ascii -O width=1000 man/lockrun.1 | sed 's/.\x08//g' | explained; }
in_completion() { sed 's/#.*//' completions/lockrun.bash | long_options; }

compared=0
differences=0
compare()
{
  local place=$1 options=$2 found
  compared=$((compared + 1))
  found=$(diff <(in_help) <("$options")) && return
  sed -nE "s/^< (.*)/\1 is in --help but not in $place/p; s/^> (.*)/\1 is in $place but not in --help/p" <<<"$found"
  differences=$((differences + 1))
}

if [ -e man/lockrun.1 ] && command -v mandoc >/dev/null; then compare "the manual page" in_manual; fi
if [ -e completions/lockrun.bash ]; then compare "the completion" in_completion; fi
if [ $compared -eq 0 ]; then
  echo "skipped: neither man/lockrun.1 (and mandoc) nor completions/lockrun.bash to compare --help with"
  exit 77
fi
[ $differences -eq 0 ]
