# shellcheck shell=bash
# Completion of splitmx in bash. It asks `splitmx --help` and `splitmx COMMAND --help` of the very program on the line:
# so it knows what that has. Only what an operand or a value *is* stands here: see `case "$kind"`.

_splitmx()
{
    local program=${1/#\~/$HOME} current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local words='' kind='' line i
    local -a config=()
    local -A value=()

    # --config=FILE comes as three words.
    if [[ $current == = ]]; then
        current=''
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    if ((COMP_CWORD == 1)); then
        while IFS= read -r line; do
            [[ $line =~ ^\ +([a-z-]+)\  ]] && words+=" ${BASH_REMATCH[1]}"
        done < <("$program" --help 2>/dev/null)
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi

    while IFS= read -r line; do
        if [[ $line =~ ^\ +((-[a-zA-Z]),\ )?(--[a-z-]+)\ ([A-Z]+)? ]]; then
            words+=" ${BASH_REMATCH[2]} ${BASH_REMATCH[3]}"
            for i in ${BASH_REMATCH[2]} ${BASH_REMATCH[3]}; do
                value[$i]=${BASH_REMATCH[4]}
            done
        elif [[ $line == usage:* ]]; then
            # What is left without the options in brackets: the operand, [DOMAIN…] too.
            line=${line#*"${COMP_WORDS[1]}"}
            while [[ $line =~ \[-[^]]*\] ]]; do
                line=${line/"${BASH_REMATCH[0]}"/}
            done
            kind=${line//[^A-Z]/}
        fi
    done < <("$program" "${COMP_WORDS[1]}" --help 2>/dev/null)

    if [[ -n ${value[$before]-} ]]; then
        kind=${value[$before]}
    elif [[ $current == -* || -z $kind ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi

    case "$kind" in
    FILE)
        compopt -o default # readline's own: it knows quotes and folders
        ;;
    SET)
        for ((i = 2; i < COMP_CWORD - 1; i++)); do
            [[ ${COMP_WORDS[i]} != -c && ${COMP_WORDS[i]} != --config ]] || config=(-c "${COMP_WORDS[i + 1]}")
        done
        words=$("$program" ledger "${config[@]}" --json 2>/dev/null | sed -n 's/^{"set": *\([0-9]*\).*/\1/p')
        mapfile -t COMPREPLY < <(compgen -W "$words all" -- "$current")
        ;;
    ADDRESS | DOMAIN | RELAY) ;; # not for us to guess
    esac
}

complete -F _splitmx splitmx
