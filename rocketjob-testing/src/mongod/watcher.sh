# Ends a mongod when nobody is left who needs it, and removes its folder. Runs as `sh -c`, with these arguments:
#   $1  the folder of this run: `mongod.pid`, `data/`, and while the server may be used, `port`
#   $2  the folder with one file for each client, named by the id and the start of its process
#   $3  how many seconds the server outlives its last client
#   and then the command line of the mongod; without one, somebody else starts it and writes `mongod.pid`.
set -u
run=$1 clients=$2 linger=$3
shift 3

# A closed terminal or Ctrl-C must not end the watcher before the tests: it goes when they are gone.
trap '' HUP INT
asked=
trap 'asked=yes' TERM

echo $$ >"$run/watcher.pid" || exit 1
mongod=
if [ $# -gt 0 ]; then
    # The id is written before there is a mongod, so that none can be without a record. Should somebody have moved the
    # folder away by then, there is no place to write to, and no mongod.
    sh -c 'echo $$ >"$0" && exec "$@"' "$run/mongod.pid" "$@" &
    mongod=$!
fi

# Whether the client whose file is $1 lives. A process that has ended and that its parent has not noticed is dead.
lives() {
    kill -0 "${1%.*}" 2>/dev/null || return 1
    [ "${1##*.}" != 0 ] || return 0
    { read -r stat <"/proc/${1%.*}/stat"; } 2>/dev/null || return 1
    expected=${1##*.}
    # What follows the program's name in brackets: the state is the first field, the start is the twentieth.
    set -f
    set -- ${stat##*) }
    set +f
    [ $# -ge 20 ] && [ "$1" != Z ] && [ "$1" != X ] && [ "${20}" = "$expected" ]
}

# Whether any client lives; removes the files of the dead.
anyone() {
    found=1
    for file in "$clients"/*; do
        [ -e "$file" ] || continue
        if lives "${file##*/}"; then found=0; else rm -f "$file"; fi
    done
    return $found
}

alone=0
while sleep 1; do
    [ -z "$asked" ] || break
    [ -d "$run" ] || break
    [ -z "$mongod" ] || kill -0 "$mongod" 2>/dev/null || break
    if anyone; then
        alone=0
        continue
    fi
    alone=$((alone + 1))
    [ "$alone" -ge "$linger" ] || continue
    # First withdraw, then look again; a client first registers, then looks for `port`. See `shared.rs` for why.
    [ ! -e "$run/port" ] || mv "$run/port" "$run/withdrawn"
    anyone || break
    [ ! -e "$run/withdrawn" ] || mv "$run/withdrawn" "$run/port"
    alone=0
done

# Nobody needs the data, so nothing is gained by a slow and orderly end.
if [ -n "$mongod" ]; then
    kill -KILL "$mongod" 2>/dev/null
    wait "$mongod" 2>/dev/null
elif read -r mongod <"$run/mongod.pid"; then
    kill -KILL "$mongod"
fi 2>/dev/null

# Out of sight in one step, since others take a folder of this name for a run. What is still being written by a mongod
# that is no child of this shell, and so ends in its own time, is caught by trying again.
gone=${run%/*}/gone-${run##*/}
mv "$run" "$gone" 2>/dev/null || exit 0
for attempt in 1 2 3 4 5; do
    rm -rf "$gone" 2>/dev/null && break
    sleep 1
done
