#!/bin/sh
# Tells Landfall once that this server can be logged into, then removes itself. Harmless to delete.
# Says: boot id, machine id, public host keys, kernel, state of cloud-init, host name, which file systems are mounted
# where, arrays that lack a disk. Nothing else leaves the server.

URL=@URL@
ROOT=${PHONE_HOME_ROOT:-} # these five are set by tests alone
SSH_PORT=${PHONE_HOME_SSH_PORT:-22}
TICK=${PHONE_HOME_TICK:-2}    # seconds between two looks at cloud-init and sshd
LOOKS=${PHONE_HOME_LOOKS:-450} # at cloud-init, 15 minutes; then the call says that it still runs
PAUSE=${PHONE_HOME_PAUSE:-2}  # seconds before the first repeated call; doubles
TOKEN=$ROOT@TOKEN@
UNITS=$ROOT/etc/systemd/system

# --- waiting

cloud_init_is_busy() {
    case $(systemctl is-active cloud-final.service 2>/dev/null) in
    active | failed) return 1 ;;
    activating | reloading | deactivating) return 0 ;;
    esac
    # not begun yet, unless it never will: finished before, switched off, or gone
    [ -x "$ROOT/usr/bin/cloud-init" ] && [ ! -e "$ROOT/run/cloud-init/result.json" ] &&
        [ ! -e "$ROOT/run/cloud-init/disabled" ] && [ ! -e "$ROOT/etc/cloud/cloud-init.disabled" ]
}

sshd_answers() {
    # 0A: a listening socket. sshd listens only once it has read its host keys.
    listening=$(printf ':%04X [0-9A-F]*:[0-9A-F]* 0A ' "$SSH_PORT")
    grep -qs "$listening" /proc/net/tcp /proc/net/tcp6 && [ -n "$(host_keys)" ]
}

# --- what is said

json() { # its argument as a JSON string; what is not printable ASCII is left out
    printf '"%s"' "$(printf %s "$1" | LC_ALL=C tr -cd '\040-\176' | sed 's/[\\"]/\\&/g')"
}

first_line() { head -n 1 "$1" 2>/dev/null; }

host_keys() { # "type base64", comma, ...
    comma=
    for file in "$ROOT"/etc/ssh/ssh_host_*_key.pub; do
        [ -s "$file" ] || continue
        printf %s "$comma"
        json "$(cut -d ' ' -f 1,2 "$file")"
        comma=,
    done
}

cloud_init_state() {
    [ -x "$ROOT/usr/bin/cloud-init" ] || { echo absent && return; }
    state=$("$ROOT/usr/bin/cloud-init" status 2>/dev/null | sed -n 's/^status: *//p')
    echo "${state:-unknown}"
}

mounts() { # "mount point": "UUID", comma, ... of what fstab names
    comma=
    awk '$1 !~ /^#/ && $2 ~ /^\// { print $2 }' "$ROOT/etc/fstab" 2>/dev/null | head -n 32 | while read -r where; do
        uuid=$(findmnt --noheadings --first-only --output UUID --mountpoint "$where" 2>/dev/null)
        [ -n "$uuid" ] || continue
        printf '%s%s:%s' "$comma" "$(json "$where")" "$(json "$uuid")"
        comma=,
    done
}

degraded_arrays() { # "md0", comma, ...
    comma=
    for file in "$ROOT"/sys/block/md*/md/degraded; do
        [ "$(first_line "$file")" -gt 0 ] 2>/dev/null || continue
        # one that is being filled, as the last of a new RAID5 is, is no disk that is missing
        [ "$(first_line "${file%degraded}sync_action")" != recover ] || continue
        array=${file%/md/degraded}
        printf '%s%s' "$comma" "$(json "${array##*/}")"
        comma=,
    done
}

message() {
    printf '{"boot_id":%s,"machine_id":%s,"host_keys":[%s],"kernel":%s,"cloud_init":%s,"hostname":%s' \
        "$(json "$(first_line /proc/sys/kernel/random/boot_id)")" "$(json "$(first_line "$ROOT/etc/machine-id")")" \
        "$(host_keys)" "$(json "$(uname -r)")" "$(json "$(cloud_init_state)")" "$(json "$(uname -n)")"
    # a system without awk or findmnt says nothing of its mounts, which is not the same as having none
    has awk && has findmnt && printf ',"mounts":{%s}' "$(mounts)"
    printf ',"degraded_arrays":[%s]}' "$(degraded_arrays)"
}

# --- saying it: with what there is. Each prints the HTTP status, or nothing, and to the journal what was in its way. The
# token is on no command line.

by_curl() {
    printf 'header = "Authorization: Bearer %s"\n' "$(first_line "$TOKEN")" |
        curl -sS -m 30 -o /dev/null -w '%{http_code}' -K - -H 'Content-Type: application/json' -d "$1" "$URL"
}

by_wget() {
    settings=$(umask 077 && mktemp) || return
    printf 'header = Authorization: Bearer %s\n' "$(first_line "$TOKEN")" >"$settings"
    WGETRC=$settings wget -q -S -O /dev/null --tries=1 --timeout=30 --header='Content-Type: application/json' \
        --post-data="$1" "$URL" 2>&1 | sed -n 's|^ *HTTP/[0-9.]* \([0-9]*\).*|\1|p' | tail -n 1
    rm -f "$settings"
}

by_python() {
    "$1" - "$URL" "$TOKEN" "$2" <<'PYTHON'
import sys, urllib.error, urllib.request
url, token, body = sys.argv[1:]
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + open(token).readline().strip()}
try:
    print(urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error, file=sys.stderr)
PYTHON
}

by_bash() { # plain HTTP alone
    bash -s "$URL" "$TOKEN" "$1" <<'BASH' 2>/dev/null
rest=${1#http://} && host=${rest%%/*} && port=${host##*:} && read -r token <"$2"
[ "$port" = "$host" ] && port=80
exec 3<>"/dev/tcp/${host%:*}/$port" || exit
printf 'POST /%s HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' \
    "${rest#*/}" "$host" "$token" "${#3}" "$3" >&3
read -r -t 30 _ status _ <&3 && echo "$status"
BASH
}

has() { command -v "$1" >/dev/null; }

call() {
    if has curl; then
        by_curl "$1"
    elif has python3; then
        by_python python3 "$1"
    elif has /usr/libexec/platform-python; then # of RHEL
        by_python /usr/libexec/platform-python "$1"
    elif has wget; then
        by_wget "$1"
    else
        by_bash "$1"
    fi
}

remove_myself() {
    rm -f "$TOKEN" "$UNITS/multi-user.target.wants/@NAME@.service" "$UNITS/@NAME@.service" "$ROOT/usr/local/sbin/@NAME@"
    systemctl daemon-reload 2>/dev/null
}

# --- the course of it. All of it is read before it runs, as it deletes its own file.

main() {
    while cloud_init_is_busy && [ "$LOOKS" -gt 0 ]; do
        sleep "$TICK"
        LOOKS=$((LOOKS - 1))
    done
    until sshd_answers; do sleep "$TICK"; done

    while :; do
        status=$(call "$(message)")
        case $status in
        2?? | 404 | 410)
            echo "Landfall answered $status: done, removing myself"
            remove_myself
            exit 0
            ;;
        408 | 429 | 5?? | 000 | '') echo "Landfall did not take the call (${status:-no connection}), next try in $PAUSE s" ;;
        *)
            echo "Landfall refused the call with $status: giving up until the next boot" >&2
            exit 1
            ;;
        esac
        sleep "$PAUSE"
        PAUSE=$((PAUSE * 2 < 60 ? PAUSE * 2 : 60))
    done
}

main
