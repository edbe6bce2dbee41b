#!/usr/bin/env bash
# Which directory may include which. Prints every #include that breaks the rule.
set -u
cd "$(dirname "$(readlink -f "$0")")/.."

# A directory, and what it may include besides itself. <lockrun/...> is open to all.
declare -A allowed=(
  [main]="cli flock options startup sys" # src/main.cpp
  [timeline]="options startup sys text"
  [cli]="options startup lock remote kernel child sys text"
  [flock]="startup lock kernel sys text"
  [options]="startup lock remote kernel sys text"
  [startup]="sys text"
  [lock]="kernel sys text"
  [remote]="kernel child protocol sys text"
  [kernel]="sys text"
  [child]="sys text"
  [engines]="protocol sys text"
  [protocol]="text"
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
    include/*) layer=include ;;
    src/*/*) layer=${file#src/} layer=${layer%%/*} ;;
    *) layer=main ;;
  esac
  if [ -z "${allowed[$layer]+known}" ]; then
    offence "$file" "$line" "the directory '$layer' is not in the table of tests/layers.sh"
    continue
  fi
  [[ $include =~ ([\"<])([^\">]+) ]] || continue
  target=${BASH_REMATCH[2]}
  if [ "${BASH_REMATCH[1]}" = "<" ]; then
    [[ $target != CLI/* || $file == src/startup/cli11.cpp || $file == src/timeline/options.cpp ]] ||
      offence "$file" "$line" "CLI11 is for startup/cli11.cpp and timeline/options.cpp alone"
    continue
  fi
  for place in "$layer" ${allowed[$layer]}; do
    [[ $target == *..* || $layer == include ]] || [[ $target != "$place"/* && $target != "$place".* ]] || continue 2
  done
  offence "$file" "$line" "$layer may not include \"$target\" (open to it: ${allowed[$layer]:-nothing but <lockrun/...>})"
done < <(grep -rnE --include='*.[ch]pp' '^[[:space:]]*#[[:space:]]*include' src include)

[ "$offenders" -eq 0 ]
