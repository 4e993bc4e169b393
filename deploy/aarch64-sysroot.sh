#!/usr/bin/env bash
# Unpacks Debian's arm64 libraries that the core needs into build/aarch64-sysroot, for the preset
# `aarch64`. Needs no root and leaves the system alone: not every -dev package can be installed for
# two architectures at once, and those that can must have the same version for both.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  libabsl-dev libgmock-dev libgtest-dev libicu-dev libisal-dev libnghttp2-dev libprotobuf-dev libssl-dev
  libxxhash-dev nlohmann-json3-dev
)
sysroot=build/aarch64-sysroot
[ "$(cat $sysroot/packages 2>/dev/null)" = "${packages[*]}" ] && exit 0

mkdir -p build
work=$(mktemp -d "$PWD/build/.sysroot.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The system's package sources, but lists, cache and status of our own: an arm64 machine on which
# nothing is installed.
mkdir -p "$work"/{lists,archives}/partial "$work/root"
touch "$work/status"
apt() {
  apt-get -q -y --no-install-recommends -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
    -o APT::Sandbox::User=root -o Dir::State="$work" -o Dir::State::status="$work/status" \
    -o Dir::Cache="$work" "$@" >&2
}
apt update
apt install --download-only "${packages[@]}"
for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done

# Links to /lib mean the sysroot's.
find "$work/root" -type l -lname '/*' | while read -r link; do
  ln -sfr "$work/root$(readlink "$link")" "$link"
done
echo "${packages[*]}" >"$work/root/packages"
rm -rf $sysroot
mv "$work/root" $sysroot
