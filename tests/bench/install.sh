#!/bin/sh
# Installs what `make bench` measures against. Quick when all is there; prints the exact line when not root.
set -eu

packages="haproxy nginx libnginx-mod-mail postfix postfix-lmdb lmdb-utils openssl"

if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian: taking for granted what these packages hold: $packages" >&2
    exit 0
fi

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Some packages are missing. Install them, then say it again:" >&2
    echo "  sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# Which services there are already is the operator's business; those that come now are not to start, nor at the next boot.
services=""
for service in haproxy nginx postfix; do
    [ -e "/lib/systemd/system/$service.service" ] || services="$services $service"
done
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "Installing:$missing"
# "No configuration": Postfix runs from folders of its own here.
case "$missing" in
*postfix*) echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections ;;
esac
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update -qq
# shellcheck disable=SC2086 # a list of words
apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends $missing >/dev/null
for service in $services; do
    systemctl disable "$service" >/dev/null 2>&1 || true
done
