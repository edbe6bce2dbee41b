#!/usr/bin/env bash
# Runs lockrun and every other locking tool that is installed through the same accidents, and prints what happened.
# compare.sh [LOCKRUN [TOOL]...]: the program to test, and which rows; all that are installed when none is named.
set -u

lockrun=$(readlink -f "${1:-build/release/lockrun}")
[ -x "$lockrun" ] || { echo "compare: there is no program '$lockrun'" >&2; exit 64; }
shift $(($# > 0))
dir=$(mktemp -d)
cd "$dir" || exit
started=()
finish()
{
  local pid
  for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null; done
  rm -rf "$dir"
}
trap finish EXIT

# Each tool's two forms: `TOOL try LOCK COMMAND…` does not wait, `TOOL wait LOCK COMMAND…` does.
form()
{
  local tool=$1 how=$2
  shift 2
  case "$tool.$how" in
    lockrun.try) exec "$lockrun" -q -n "$@" ;;
    lockrun.wait) exec "$lockrun" -q "$@" ;;
    flock.try | s6-setlock.try | setlock.try) exec "$tool" -n "$@" ;;
    flock.wait | s6-setlock.wait | setlock.wait) exec "$tool" "$@" ;;
    chpst.try) exec chpst -L "$@" ;;
    chpst.wait) exec chpst -l "$@" ;;
    lckdo.try) exec lckdo "$@" ;;
    lckdo.wait) exec lckdo -w "$@" ;;
    # Its locks have names, not files; it polls.
    sem.try) HOME=$dir exec sem -q --fg --st -1 --id "${1//\//-}" "${@:2}" ;;
    sem.wait) HOME=$dir exec sem -q --fg --id "${1//\//-}" "${@:2}" ;;
    with-lock-ex.try) exec with-lock-ex -f "$@" ;;
    with-lock-ex.wait) exec with-lock-ex -w "$@" ;;
  esac
}

# What we wait for comes soon or not at all.
eventually()
{
  local tries
  for ((tries = 0; tries < 300; ++tries)); do
    "$@" && return 0
    read -r -t 0.01 <>"$dir/nap"
  done
  return 1
}
mkfifo "$dir/nap"

is_gone() { [ ! -e "/proc/$1" ] || grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"; }
waits() { grep -q -- "-> .* $1 " /proc/locks; }
is_free() { (form "$tool" try lock true) >/dev/null 2>&1 </dev/null; }
status_of() { ("$@") >/dev/null 2>&1 </dev/null; echo $?; }

takes_files() { [ "$tool" != sem ]; }

# In the background, with its number in $pid.
start()
{
  (form "$@") >/dev/null 2>&1 </dev/null &
  pid=$!
  started+=("$pid")
  disown "$pid" # the shell says nothing when it is killed
}

# A command that says where it is, writes down a SIGTERM, and stays until `leave` can be read.
stay='trap "echo > told" TERM; echo $$ > here; until read -r x < leave; do :; done'
let_go() { rm -f here told; (echo go >leave) & started+=($!); }

busy()
{
  start "$tool" wait lock sh -c "$stay"
  eventually test -s here
  cell=$(status_of form "$tool" try lock true)
  let_go
  eventually is_gone "$pid"
}

terminated()
{
  local command
  start "$tool" wait lock sh -c "$stay"
  eventually test -s here
  command=$(cat here)
  kill -TERM "$pid"
  if [ "$pid" = "$command" ]; then cell=exec
  else
    eventually test -e told -o ! -e "/proc/$pid"
    is_gone "$pid" || eventually test -e told
    if [ -e told ]; then cell='told, '; else cell=''; fi
    if is_gone "$command"; then cell+='ended / '
    elif is_gone "$pid"; then cell+='runs on / '
    else cell+='waited for / '; fi
    if is_free; then cell+='free'; else cell+='held'; fi
  fi
  kill -KILL "$command" 2>/dev/null
  eventually is_gone "$command"
  rm -f here told
  eventually is_gone "$pid"
}

daemon()
{
  start "$tool" wait lock sh -c 'setsid sh -c "echo \$\$ > here; exec sleep 600" & until [ -s here ]; do :; done'
  eventually is_gone "$pid"
  if is_free; then cell=free; else cell=HELD; fi
  kill -KILL "$(cat here)"
  eventually is_gone "$(cat here)"
  rm -f here
}

removed()
{
  local holder waiter
  start "$tool" wait lock sh -c "$stay"
  holder=$pid
  eventually test -s here
  start "$tool" wait lock sh -c 'echo $$ > second; read -r x < leave2'
  waiter=$pid
  eventually waits "$waiter"
  rm -f lock
  let_go
  eventually is_gone "$holder"
  eventually test -s second
  if is_free; then cell='two run'; else cell=ok; fi
  echo go >leave2 &
  started+=($!)
  eventually is_gone "$waiter"
  rm -f second
}

fifo()
{
  mkfifo pipe
  case $(status_of timeout 2 bash -c "$(declare -f form); lockrun='$lockrun'; form $tool try pipe true") in
    0) cell=ok ;;
    124) cell=hangs ;;
    *) cell=refused ;;
  esac
  rm -f pipe
}

closed_input()
{
  local input
  input=$( (form "$tool" try lock readlink /proc/self/fd/0) 2>/dev/null <&-)
  case $input in
    *lock) cell='lock is stdin' ;;
    *) cell=ok ;;
  esac
}

row()
{
  tool=$1
  local cells=()
  mkfifo leave leave2
  busy; cells+=("$cell")
  if takes_files; then cells+=("$(status_of form "$tool" try missing/lock true)"); else cells+=(-); fi
  cells+=("$(status_of form "$tool" try lock ./no-such-command)")
  # shellcheck disable=SC2016 # for the inner shell
  cells+=("$(status_of form "$tool" try lock sh -c 'kill -KILL $$')")
  terminated; cells+=("$cell")
  daemon; cells+=("$cell")
  if takes_files; then
    removed; cells+=("$cell")
    fifo; cells+=("$cell")
  else cells+=(- -); fi
  closed_input; cells+=("$cell")
  # shellcheck disable=SC2059 # one format for all rows
  printf "$format" "$tool" "${cells[@]}"
  rm -rf ./lock ./leave ./leave2 ./here ./told
}

format='%-13s %-5s %-5s %-5s %-5s %-26s %-6s %-9s %-9s %s\n'
cat <<'END'
A busy, not waiting         G the tool gets SIGTERM: command / lock
B directory is missing      H the command leaves a daemon behind: lock
C no such command           J a waiter, the file is removed, a third comes
F command killed (KILL)     M a FIFO as the lock
                            T started with standard input closed

END
# shellcheck disable=SC2059
printf "$format" tool A B C F G H J M T
for tool in "${@:-flock setlock s6-setlock chpst lckdo with-lock-ex sem lockrun}"; do
  for name in $tool; do
    [ "$name" = lockrun ] || command -v "$name" >/dev/null || continue
    row "$name"
  done
done
