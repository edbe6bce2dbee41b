#!/usr/bin/env bash
# Whether the overview in src/main.cpp names every unit of every directory, and no other directory. Engine programs' own units (net, etcd)
# are not in it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

overview=$(sed -n '\#^//   [a-z]*/ #,\#clang-format on#p' src/main.cpp)
# The lines of one directory: from its name to the next one.
lines_of() { awk -v name="$1/" '$1 == "//" && $2 ~ /\/$/ { on = $2 == name } on' <<<"$overview"; }

missing=0
for directory in src/*/; do
  name=$(basename "$directory")
  words=$(lines_of "$name" | grep -oE '[a-z0-9_]+' || true)
  for unit in $(find "$directory" -maxdepth 1 -name '*.?pp' -printf '%f\n' | sed 's/\..*//' | sort -u); do
    grep -qxF "$unit" <<<"$words" || { echo "src/main.cpp: $name/$unit is not in the overview"; missing=1; }
  done
done
for name in $(grep -oE '^//   [a-z]+/' <<<"$overview" | grep -oE '[a-z]+'); do
  [ -d "src/$name" ] || { echo "src/main.cpp: there is no directory src/$name"; missing=1; }
done
exit $missing
