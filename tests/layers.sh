#!/usr/bin/env bash
# Who may include whom. Prints every #include that goes up the stairs or through a wall.
set -u
cd "$(dirname "$(readlink -f "$0")")/.."

# A room, and what it may name besides itself. <lockrun/...> is open to all.
declare -A allowed=(
  [main]="cli flock lock child backends sys text timeline" # the front doors: src/*.cpp
  [timeline]="cli sys text"
  [flock]="cli lock sys"
  [cli]="lock child backends sys text"
  [lock]="backends sys"
  [child]="sys"
  [backends]="sys engines/protocol text"
  [engines]="sys"
  [text]=""
  [sys]=""
  [include]=""
)

offenders=0
offence()
{
  echo "$1:$2: $3"
  offenders=$((offenders + 1))
}

while IFS=: read -r file line include; do
  case $file in
    include/*) room=include ;;
    src/*/*) room=${file#src/} room=${room%%/*} ;;
    *) room=main ;;
  esac
  if [ -z "${allowed[$room]+known}" ]; then
    offence "$file" "$line" "the room '$room' is not in the table of tests/layers.sh"
    continue
  fi
  [[ $include =~ ([\"<])([^\">]+) ]] || continue
  target=${BASH_REMATCH[2]}
  if [ "${BASH_REMATCH[1]}" = "<" ]; then
    [[ $target != CLI/* || $file == src/cli/* || $file == src/timeline/options.cpp ]] ||
      offence "$file" "$line" "CLI11 lives in cli and in timeline/options, and nowhere else"
    continue
  fi
  for place in "$room" ${allowed[$room]}; do
    [[ $target == *..* || $room == include ]] || [[ $target != "$place"/* && $target != "$place".* ]] || continue 2
  done
  offence "$file" "$line" "$room may not include \"$target\" (open to it: ${allowed[$room]:-nothing but <lockrun/...>})"
done < <(grep -rnE --include='*.[ch]pp' '^[[:space:]]*#[[:space:]]*include' src include)

[ "$offenders" -eq 0 ]
