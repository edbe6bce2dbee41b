# Completion of lockrun-timeline(1) for bash: options; everything else is a file.

_lockrun_timeline()
{
  local word=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '--svg --width --lock --last --help --version' -- "$word")
  fi
}

complete -o default -F _lockrun_timeline lockrun-timeline
