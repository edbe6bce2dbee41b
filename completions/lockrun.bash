# Completion of lockrun(1) for bash: options, then the lock, then the command with its own completion.

_lockrun()
{
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()

  # Where LOCK stands: the first word that is neither an option nor the value of one.
  local at lock=0 has_descriptor= only_looks=
  for ((at = 1; at < COMP_CWORD; at++)); do
    case ${COMP_WORDS[at]} in
      --) lock=$((at + 1)); break ;;
      --fd) has_descriptor=yes ;;&
      --fd | --wait | --timeout | --conflict-exit-code | --max-waiters | --slots | --also | --also-shared | --nested | --command | --shell | --hold | --max-hold | --kill-after | --signal | \
        --api | --start | --length | --mode | --events)
        # readline makes three words of --wait=5
        if [ "${COMP_WORDS[at + 1]-}" = = ]; then at=$((at + 2)); else at=$((at + 1)); fi
        ;;
      --status | --probe) only_looks=yes ;;
      --progress) if [ "${COMP_WORDS[at + 1]-}" = = ]; then at=$((at + 2)); fi ;;
      --*) ;;
      -*[wEckj]) at=$((at + 1)) ;;
      -*) ;;
      *) lock=$at; break ;;
    esac
  done
  # With --fd the command is all that stands there.
  if [ -n "$has_descriptor" ]; then
    if [ "$lock" -ne 0 ]; then lock=$((lock - 1)); elif [[ $word != -* ]]; then lock=$((COMP_CWORD - 1)); fi
  fi

  if [ "$lock" -ne 0 ] && [ "$COMP_CWORD" -gt "$lock" ]; then
    if [ -n "$only_looks" ]; then return; fi # more locks
    if declare -F _comp_command_offset >/dev/null; then
      _comp_command_offset $((lock + 1))
    elif declare -F _command_offset >/dev/null; then
      _command_offset $((lock + 1))
    elif [ "$COMP_CWORD" -eq $((lock + 1)) ]; then
      mapfile -t COMPREPLY < <(compgen -c -- "$word")
    fi
    return
  fi

  if [ "$word" = = ]; then word=; fi
  if [ "$previous" = = ]; then previous=${COMP_WORDS[COMP_CWORD - 2]}; fi
  case $previous in
    --hold) mapfile -t COMPREPLY < <(compgen -W 'command tree wrapper' -- "$word") ;;
    --nested) mapfile -t COMPREPLY < <(compgen -W 'fail run wait' -- "$word") ;;
    --signal) mapfile -t COMPREPLY < <(compgen -W 'TERM INT HUP QUIT USR1 USR2 KILL' -- "$word") ;;
    --api) mapfile -t COMPREPLY < <(compgen -W 'flock ofd both' -- "$word") ;;
    --shell) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
    --wait | --timeout | --conflict-exit-code | --slots | --max-waiters | --also | --also-shared | --command | --max-hold | --kill-after | --start | --length | --mode | --fd | -*[wEckj]) ;;
    *)
      if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '
          --exclusive --shared --unlock --slots
          --nonblock --nb --nonblocking --wait --timeout --conflict-exit-code --fair --max-waiters --nested --reentrant
          --command --shell --no-fork
          --hold --close --max-hold --kill-after --signal
          --api --fcntl --start --length --also --also-shared --fd
          --mode --no-create --no-follow --unlink
          --verbose --quiet --progress --events --syslog
          --status --json --probe
          --help --version' -- "$word")
      fi
      ;;
  esac
}

complete -o default -F _lockrun lockrun
