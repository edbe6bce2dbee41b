#!/usr/bin/env bash
# Run every example of a manual page or of a Markdown file, and compare what it does with what stands there: examples.sh PROGRAM FILE
#
# An example is a literal display (.Bd -literal … .Ed), or a fenced block. What is expected of it stands in comments in front of it,
# which are not rendered:   .\" test: KEY TEXT   or   <!-- test: KEY TEXT -->
#
#   not-run WHY       it is no example: output, a table, something that needs a machine of its own
#   before COMMAND    run in bash first; it may say `hold [OPTION]... LOCK` and `stub PROGRAM [SCRIPT]`
#   cron              it is lines of a crontab: each is run as cron does, with hardly an environment, and with lockrun in /usr/local/bin
#                     alone, where cron's PATH does not lead
#   script NAME       it is the beginning of the executable script NAME, whose other lines `rest LINE` give; `run COMMAND` runs it
#   prints LINE       a line of standard output   \  all lines, in this order; none means that it prints nothing
#   says LINE         a line of standard error    /  (written as PID, USER and TIME: a number, who runs it, how long it is held)
#   status N          its exit status, 0 unless given
#   after COMMAND     run in bash afterwards, must succeed
#
# Of a file with a wrong example the directories are left behind, unless KEEP=no.
# It runs in a directory of its own; /tmp, /run, /srv, /var, /usr/local and the names name:NAME are replaced by something in there.
set -euo pipefail
program=$(readlink -f "${LOCKRUN_BINARY:-$1}")
file=$(readlink -f "$2")
exec </dev/null
unset LOCKRUN_LOCK LOCKRUN_PID

top=$(mktemp -d)
trap 'rm -f {/run/lockrun,{/run/lock,/tmp}/lockrun-"$(id -u)"}/"$(basename "$top")"-*' EXIT
failures=0
examples=0

# --- What `before` may say --------------------------------------------------------------------------------------------------------

# Somebody else holds the lock from now on until the example has ended: the command `somebody`.
hold()
{
  local gate=$dir/gate.$((++gates))
  mkfifo "$gate" "$gate.held"
  stub somebody 'echo >"$GATE.held"; read -r _ <"$GATE"'
  GATE=$gate lockrun "$@" somebody &
  read -r _ <"$gate.held"
}

let_go()
{
  while [ "$gates" -gt 0 ]; do
    echo >"$dir/gate.$gates"
    gates=$((gates - 1))
  done
  wait
}

# A program that prints how it was called, or does what SCRIPT says. In PATH, unless its name has a slash.
stub()
{
  local place=$1 script=${2-}
  [ -n "$script" ] || script="echo \"$(basename "$1")\${*:+ }\$*\""
  [[ $place == */* ]] || place=$dir/bin/$place
  mkdir -p "$(dirname "$place")"
  printf '#!/bin/sh\n%s\n' "$script" >"$place"
  chmod +x "$place"
}

# --- One example ------------------------------------------------------------------------------------------------------------------

into_directory() { sed -E "s,(^|[^A-Za-z0-9_./~-])/(tmp|run|srv|var|usr/local)/,\1$dir/\2/,g; s,\bname:,name:$(basename "$top")-,g"; }
out_of_directory() { sed -E "s,$dir/,/,g; s,$(basename "$top")-,,g; s/\bPID [0-9]+/PID PID/g; s/, user [^)]*\)/, user USER)/g
  s/\) for (at most )?[0-9][0-9a-z.]*/) for \1TIME/g"; }
told() { sed -n "s/^$1\( \|$\)//p" "$dir/test"; }

run_example()
{
  cd "$dir/work"
  PATH=$dir/bin:$dir/usr/local/bin:$PATH
  gates=0
  source <(told before | into_directory)
  local status=0 name
  if grep -q '^cron$' "$dir/test"; then
    while read -r _ _ _ _ _ command; do
      env -i HOME="$dir/work" LOGNAME=somebody PATH="$dir/bin:/usr/bin:/bin" /bin/sh -c "$command" || status=$?
    done <"$dir/text"
  elif name=$(told script) && [ -n "$name" ]; then
    { cat "$dir/text"; told rest; } >"$name"
    chmod +x "$name"
    sh -c "$(told run | into_directory)" || status=$?
  else
    sh "$dir/text" || status=$?
  fi >"$dir/out" 2>"$dir/err"
  let_go
  local expected
  expected=$(told status)
  [ "$status" -eq "${expected:-0}" ] || { echo "exit status $status, not ${expected:-0}"; cat "$dir/err"; return 1; }
  diff -u --label 'in the page' --label 'standard output' <(told prints) <(out_of_directory <"$dir/out") || return 1
  diff -u --label 'in the page' --label 'standard error' <(told says) <(out_of_directory <"$dir/err") || return 1
  echo "afterwards: $(told after)"
  source <(told after | into_directory)
}

# With `set -e` in force, which it is not in anything that `if` or `||` looks at.
run_alone()
{
  (set -e; run_example) &
  wait $!
}

# check LINE: the example in $top/test and $top/text, which ends at that line of the file.
check()
{
  if grep -q '^not-run ' "$top/test"; then return; fi
  examples=$((examples + 1))
  dir=$top/$examples
  local result=1 try
  for try in 1 2 3; do
    rm -rf "$dir"
    mkdir -p "$dir"/{bin,work,tmp,run/lock,srv,var/lock,usr/local/bin}
    ln -s "$program" "$dir/usr/local/bin/lockrun"
    cp "$top/test" "$dir/test"
    into_directory <"$top/text" >"$dir/text"
    result=0
    run_alone >"$dir/log" 2>&1 || result=$?
    # A call that has no processor does not look for the holder for long.
    [ $result -ne 0 ] && grep -q 'held by another process' "$dir/log" || break
  done
  if [ $result -ne 0 ]; then
    echo "$file:$1: the example that ends here does not do what is written there"
    sed 's/^/    /' "$dir/log"
    failures=$((failures + 1))
  fi
}

# --- All of them ------------------------------------------------------------------------------------------------------------------

# What the escapes of roff(7) stand for.
plain() { sed -e 's/\\(aq/'\''/g; s/\\(ti/~/g; s/\\(ha/^/g; s/\\(ga/`/g; s/\\&//g; s/\\-/-/g; s/\\e/\\/g'; }

case $file in
  *.md)
    note='^<!-- test: (.*) -->$' begin='^```.' end='^```$'
    plain() { cat; }
    ;;
  *) note='^\.\\" test: (.*)$' begin='^\.Bd -literal' end='^\.Ed$' ;;
esac

number=0
inside=
: >"$top/test"
while IFS= read -r line || [ -n "$line" ]; do
  number=$((number + 1))
  if [ -n "$inside" ] && [[ $line =~ $end ]]; then
    plain <"$top/raw" >"$top/text"
    check "$number"
    inside=
    : >"$top/test"
  elif [ -n "$inside" ]; then
    printf '%s\n' "$line" >>"$top/raw"
  elif [[ $line =~ $note ]]; then
    printf '%s\n' "${BASH_REMATCH[1]}" >>"$top/test"
  elif [[ $line =~ $begin ]]; then
    inside=yes
    : >"$top/raw"
  fi
done <"$file"

if [ $examples -eq 0 ]; then
  echo "$file has no example"
  exit 1
fi
echo "$examples examples, $failures of them wrong"
if [ $failures -ne 0 ] && [ "${KEEP-yes}" = yes ]; then
  echo "left behind: $top"
else
  rm -rf "$top"
fi
[ $failures -eq 0 ]
