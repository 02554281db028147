# Keeps one throw-away PostgreSQL cluster for the process at the other end of standard input: when that
# process ends, however it ends, standard input ends, and the server and its folder go.
#
# usage: sh -c SCRIPT keeper BIN [server option]...
# answers `folder PATH` or `failed` once, then one line per command:
#   start PORT     ready | failed
#   stop SIGNAL    stopped               (KILL takes the whole server down at once, as a power cut would)
set -u
trap '' HUP INT TERM PIPE

bin=$1
shift
folder=$(mktemp -d "${TMPDIR:-/tmp}/watchpost-postgres.XXXXXX") || exit 1
data=$folder/data
log=$folder/log
pid=
exec 2>>"$log"

# Line 1 of the lock file is the server's process, line 8 its state.
serving() {
    [ "$(sed -n '1p;8p' "$data/postmaster.pid" 2>/dev/null | tr -s ' \n' ' ')" = "$pid ready " ]
}

start() {
    port=$1
    shift
    polls=0
    while [ "$polls" -lt 1200 ]; do
        lines=$(wc -l <"$log")
        "$bin/postgres" -D "$data" -c "port=$port" "$@" >>"$log" 2>&1 </dev/null &
        pid=$!
        while kill -0 "$pid" && [ "$polls" -lt 1200 ]; do
            if serving; then
                echo ready
                return
            fi
            polls=$((polls + 1))
            sleep 0.05
        done
        kill -KILL "$pid"
        wait "$pid"
        # After a KILL the last of the old server's processes may still be on their way out.
        tail -n "+$((lines + 1))" "$log" | grep -q 'pre-existing shared memory block' || break
        sleep 0.05
    done
    pid=
    echo failed
}

stop() {
    if [ "$1" = KILL ]; then
        # shellcheck disable=SC2046
        kill -KILL "$pid" $(cat "/proc/$pid/task/$pid/children")
    else
        kill -s "$1" "$pid"
    fi
    wait "$pid"
    pid=
}

if "$bin/initdb" --no-sync -A trust -U watchpost -E UTF8 --locale=C -D "$data" >>"$log" </dev/null; then
    echo "folder $folder"
else
    echo "failed $folder"
fi

while read -r command argument; do
    case $command in
    start) start "$argument" -c "unix_socket_directories=$folder" "$@" ;;
    stop)
        [ -z "$pid" ] || stop "$argument"
        echo stopped
        ;;
    esac
done

[ -z "$pid" ] || stop QUIT
rm -rf "$folder"
