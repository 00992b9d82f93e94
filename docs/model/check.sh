#!/bin/sh
# Checks the model of the ledger's rules (ledger.pml beside this file) with spin: whole, in several
# configurations, then with one rule taken away at a time, where it has to find a violation. Prints a
# counterexample of what should hold and does not.
#   docs/model/check.sh [NAME...]    these only; `make model` runs all
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
limit=${MODEL_LIMIT:-300} # seconds for a run; the longest takes ten
passed=0 failed=0 wanted=" $* "

# NAME WHY SWITCHES: the trail in words, when there is one.
fail() {
    echo "model: $1: FAILED: $2"
    # Breadth first finds the shortest, where no cycle is sought.
    # shellcheck disable=SC2086 # lists of words
    if [ -f "$work/ledger.pml.trail" ]; then
        (
            cd "$work" || exit
            [ -z "$kind" ] || ! gcc -O0 -w $kind -DBFS -o pan pan.c || timeout "$limit" ./pan -m2000000 >out 2>&1
            spin -t $3 ledger.pml 2>&1 | grep -v 'Never claim' | tail -n 80
        )
    fi
    failed=$((failed + 1))
}

# run holds|breaks|harmless NAME SWITCH...: harmless is a rule without which nothing asserted here breaks
run() {
    expected=$1 name=$2
    shift 2
    case "$wanted" in "  " | *" $name "*) ;; *) return ;; esac
    case " $* " in
    *" -DLIVE "*) kind='' search='-a' ;;
    *) kind=-DSAFETY search='' ;;
    esac
    rm -f "$work"/*
    cp "$here/ledger.pml" "$work"
    # Optimising takes longer than all but the longest searches.
    case "$expected $*" in "holds -DMESSAGES=2"*) optimise=-O1 ;; *) optimise=-O0 ;; esac
    # shellcheck disable=SC2086 # no kind: no argument
    if ! (cd "$work" && spin -a "$@" ledger.pml && gcc $optimise -w $kind -o pan pan.c) >"$work/build" 2>&1; then
        cat "$work/build"
        fail "$name" 'does not build' "$*"
        return
    fi
    # shellcheck disable=SC2086
    (cd "$work" && timeout "$limit" ./pan $search -m2000000 >out 2>&1) || true
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$work/out")
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$work/out")
    seconds=$(sed -n 's/.*elapsed time \([0-9.e+-]*\) seconds.*/\1/p' "$work/out")
    # Exhaustive is what ended by itself and never came to the bottom of its stack.
    if [ -z "$errors" ] || grep -qE 'max search depth too small|out of memory' "$work/out"; then
        tail -n 20 "$work/out"
        rm -f "$work"/*.trail
        fail "$name" 'not searched to the end' "$*"
    elif [ "$expected" = breaks ] && [ "$errors" = 0 ]; then
        fail "$name" 'nothing breaks without this rule' "$*"
    elif [ "$expected" != breaks ] && [ "$errors" != 0 ]; then
        fail "$name" "$(sed -n 's/^pan:1: //p' "$work/out")" "$*"
    else
        passed=$((passed + 1))
        what=$expected
        [ "$errors" = 0 ] || what="breaks: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "$work/out" | cut -c 1-40)"
        echo "model: $name: $states states, $seconds s, $what"
    fi
}

one='-DMESSAGES=1' two='-DMESSAGES=2' pair='-DMESSAGES=2 -DFIRST=3 -DSECOND=3'
# shellcheck disable=SC2086 # lists of words
{
    run holds safety $one
    run holds safety-two-messages $pair
    run holds safety-in-parallel $two -DPARALLEL -DFIRST=3 -DSECOND=1
    run holds safety-expiry $one -DEXPIRY
    run holds tidy $one -DTIDY
    run holds tidy-two-messages $pair -DTIDY
    run holds liveness $one -DLIVE
    run holds liveness-two-messages $two -DFIRST=7 -DSECOND=3 -DLIVE

    run breaks see-already $one -DSEE_ALREADY
    run breaks see-second-copy $one -DSEE_SECOND_COPY
    run breaks see-crash-excuses $one -DSEE_CRASH_EXCUSES
    run breaks see-changed-mind $one -DSEE_CHANGED_MIND

    run breaks no-barrier $one -DMUT_NO_BARRIER
    run breaks no-durable-write $one -DMUT_NO_DURABLE
    run breaks no-record $one -DMUT_NO_RECORD
    run breaks no-identity $two -DFIRST=3 -DSECOND=2 -DMUT_NO_IDENTITY
    run breaks forget-before-read $one -DMUT_FORGET_EARLY
    run breaks never-forget $one -DTIDY -DMUT_NEVER_FORGET
    run breaks 5xx-of-one-leg-for-all $one -DMUT_PASS_5XX
    run breaks turn-at-end $one -DLIVE -DMUT_TURN_AT_END
    run breaks no-turn $one -DLIVE -DMUT_NO_TURN
    run breaks no-joining $one -DLIVE -DMUT_NO_JOINING
    run breaks no-lot $two -DFIRST=7 -DSECOND=3 -DLIVE -DMUT_NO_LOT
    run breaks leaving-tells-nothing $one -DLIVE -DMUT_LEAVING_TELLS_NOTHING
    run harmless no-lot-one-message $one -DLIVE -DMUT_NO_LOT
    run harmless record-without-set $one -DEXPIRY -DMUT_RECORD_WITHOUT_SET
}

echo "model: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
