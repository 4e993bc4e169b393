#!/usr/bin/env bash
# Installs the Debian 12 packages that building and testing need; does nothing where all are there.
#   deploy/install-deps.sh            what the build, the tests and the demo need
#   deploy/install-deps.sh dev        also what .ci/run checks with
#   deploy/install-deps.sh clang      also what AddressSanitizer and the fuzzers are built with
#   deploy/install-deps.sh aarch64    also the cross compiler and the emulator
#   deploy/install-deps.sh packages   also what deploy/packages.sh makes packages with
#   deploy/install-deps.sh full       also what tests/run.sh full tries packages and images with
set -euo pipefail

packages=(
  ca-certificates cmake g++ ninja-build pkg-config
  pybind11-dev python3 python3-dev python3-grpcio python3-numpy python3-torch
  libabsl-dev libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libcli11-dev libicu-dev libisal-dev libnghttp2-dev libssl-dev libxxhash-dev nlohmann-json3-dev
  libbenchmark-dev libgmock-dev libgtest-dev
  libhiredis-dev liblmdb-dev librocksdb-dev memcached openssl python3-yaml redis-server
  prometheus prometheus-cpp-dev python3-prometheus-client
  spin
)
case "${1:-}" in
  "") ;;
  dev) packages+=(clang-format clang-tidy shellcheck) ;;
  clang) packages+=(clang-14 libclang-rt-14-dev) ;;
  packages) packages+=(dpkg-dev file) ;;
  full)
    packages+=(dpkg-dev file fuse3 lintian mmdebstrap python3-fusepy systemd
      aardvark-dns catatonit conmon iptables netavark nftables podman runc)
    ;;
  aarch64) packages+=(g++-aarch64-linux-gnu qemu-user) ;;
  *)
    echo "error: unknown argument '$1' (none, dev, clang, aarch64, packages or full)" >&2
    exit 2
    ;;
esac
# Many machines have Node.js from elsewhere, which Debian's package would fight with.
command -v npm >/dev/null || packages+=(nodejs npm)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
    missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    { echo "error: not root and no sudo; missing packages: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
