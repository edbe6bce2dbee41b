#!/usr/bin/env bash
# The completion for bash, without the package bash-completion: after the words in front of the colon the words behind it are offered.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
source completions/lockrun.bash

failures=0
offers()
{
  local -a COMP_WORDS COMPREPLY
  local COMP_CWORD
  read -ra COMP_WORDS <<<"${1%:*}"
  if [[ $1 == *' :'* ]]; then COMP_WORDS+=(''); fi
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _lockrun
  local expected=${1##*:}
  [ "${COMPREPLY[*]}" = "${expected# }" ] && return
  echo "after '${1%:*}': '${COMPREPLY[*]}', not '${expected# }'"
  failures=1
}

compgen() { if [ "$1" = -c ]; then echo COMMAND; else builtin compgen "$@"; fi }

offers 'lockrun --excl: --exclusive'
offers 'lockrun -n --wa: --wait'
offers 'lockrun --api :flock ofd both'
offers 'lockrun --api = o: ofd'
offers 'lockrun --nested :fail run wait'
offers 'lockrun -k 5 --max-hold 5 --signal IN:INT'
offers 'lockrun -w :'
offers 'lockrun -nw :'
offers 'lockrun :'
offers 'lockrun -w 5 :'
offers 'lockrun -w 5 file :COMMAND'
offers 'lockrun --wait = 5 file e:COMMAND'
offers 'lockrun --wait = 5 --ver: --verbose --version'
offers 'lockrun -- --f :COMMAND'
offers 'lockrun --fd 9 :COMMAND'
offers 'lockrun --fd 9 e:COMMAND'
offers 'lockrun file command --ver:'
offers 'lockrun --status --js: --json'
offers 'lockrun --status file :'
offers 'lockrun --events log :'
offers 'lockrun --progress = 5 file :COMMAND'
exit $failures
