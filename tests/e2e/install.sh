#!/bin/sh
# Installs what the end-to-end tests and those between hosts (tests/hosts) need. Quick when all is there; prints the exact line when not root.
set -eu

packages="python3-pytest python3-pytest-xdist testssl.sh swaks libnet-ssleay-perl msmtp nmap postfix haproxy dnsmasq-base iproute2 openssl systemd"
cache="$(cd "$(dirname "$0")/../.." && pwd)/build/peers"
exim="$cache/exim/usr/sbin/exim4"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done

as_root() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "tests need these packages; run as root:" >&2
        echo "  $*" >&2
        exit 1
    fi
    # Another apt may hold one of its two locks; only the dpkg lock has a waiting option.
    for attempt in 1 2 3 4 5 6; do
        if env DEBIAN_FRONTEND=noninteractive "$@"; then
            return 0
        fi
        echo "install.sh: attempt $attempt failed, trying again in 10 s" >&2
        sleep 10
    done
    return 1
}


as_root_apt() {
    as_root apt-get -o DPkg::Lock::Timeout=300 "$@"
}

if [ -n "$missing" ]; then
    case "$missing" in
    *postfix*)
        if [ "$(id -u)" -eq 0 ]; then
            # "No configuration": the tests run Postfix from folders of their own.
            echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
        fi
        ;;
    esac
    # A service that starts now would take port 25; policy-rc.d is Debian's way to say no.
    policy=/usr/sbin/policy-rc.d
    made_policy=no
    if [ "$(id -u)" -eq 0 ] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=yes
    fi
    [ "$(id -u)" -ne 0 ] || [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' 2>/dev/null | head -n 1)" ] ||
        as_root_apt update -q
    status=0
    # shellcheck disable=SC2086
    as_root_apt install -y -q --no-install-recommends $missing || status=$?
    [ "$made_policy" = no ] || rm -f "$policy"
    [ "$status" -eq 0 ] || exit "$status"
    # Installing Postfix enables its service; the tests start their own, from their own folders.
    case "$missing" in
    *postfix*) systemctl disable postfix >/dev/null 2>&1 || true ;;
    esac
fi

# The browser of tests/e2e/test_page.py. Where it cannot be had, its tests are skipped.
browser=""
for package in chromium chromium-driver python3-selenium; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || browser="$browser $package"
done
# shellcheck disable=SC2086
[ -z "$browser" ] || as_root_apt install -y -q --no-install-recommends $browser || echo 'install.sh: no chromium' >&2

# Of Prometheus' package the two programs: installed, it would be started. Where they cannot be had, their tests are skipped.
prometheus="$cache/prometheus/usr/bin"
if ! { command -v promtool && command -v prometheus; } >/dev/null && ! { [ -x "$prometheus/promtool" ] && [ -x "$prometheus/prometheus" ]; }; then
    mkdir -p "$cache/debs" "$cache/prometheus"
    (cd "$cache/debs" && apt-get download -q prometheus &&
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -C "$cache/prometheus" ./usr/bin/promtool ./usr/bin/prometheus) ||
        echo 'install.sh: no prometheus' >&2
    rm -f "$cache/debs"/prometheus_*.deb
fi

# Exim and Postfix exclude each other as packages, so Exim is unpacked beside it, not installed.
if [ ! -x "$exim" ]; then
    mkdir -p "$cache/debs"
    (cd "$cache/debs" && apt-get download -q exim4-daemon-light exim4-base)
    libraries=$(for deb in "$cache"/debs/exim4-*.deb; do dpkg-deb -f "$deb" Depends; done |
        tr ',' '\n' | sed 's/^ *//; s/[ |:(].*//' | grep '^lib' | sort -u)
    wanted=""
    for library in $libraries; do
        dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q 'install ok installed' ||
            wanted="$wanted $library"
    done
    # shellcheck disable=SC2086
    [ -z "$wanted" ] || as_root_apt install -y -q --no-install-recommends $wanted
    rm -rf "$cache/exim.part"
    for deb in "$cache"/debs/exim4-*.deb; do
        dpkg-deb -x "$deb" "$cache/exim.part"
    done
    rm -rf "$cache/exim"
    mv "$cache/exim.part" "$cache/exim"
fi
# The user that Debian's Exim looks up by name when it starts.
getent passwd Debian-exim >/dev/null ||
    as_root useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
