#!/usr/bin/env bash
# Builds a token trace of real text, the one that figures are measured on, from Debian 12 packages
# and the DeepSeek-V3 tokenizer. Installs nothing and needs no root; needs node, npm and xz.
#   deploy/data/make-text-trace.sh OUT [TOKENS]     default: 2100000
#   KIND=NAME   of one kind of text alone: "handbook (zh)", "Python", ... (text-trace.mjs has them all)
#   DEBS=DIR    take the .deb files in DIR (one per package); those missing are downloaded into it
set -euo pipefail

packages=(debian-handbook glibc-source libpython3.11-stdlib linux-doc-6.1)
fail() { echo "error: $*" >&2; exit 1; }
usage() { echo "error: $*; usage: make-text-trace.sh OUT [TOKENS]" >&2; exit 2; }

if [ $# -lt 1 ] || [ $# -gt 2 ]; then usage "one or two arguments are needed"; fi
tokens=${2:-2100000}
[[ $tokens =~ ^[1-9][0-9]{0,8}$ ]] || usage "TOKENS must be a number from 1 to 999999999"
out=$(realpath -m -- "$1")
[ -d "$(dirname "$out")" ] || fail "there is no directory $(dirname "$out")"
[ ! -d "$out" ] || fail "$out is a directory"
for tool in apt-get dpkg-deb node npm tar xz; do
  command -v "$tool" >/dev/null || fail "$tool is not installed"
done
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debs=$(realpath -m -- "${DEBS:-$work/debs}")
mkdir -p "$debs" || fail "cannot make the directory $debs"

shopt -s nullglob
versions=()
for package in "${packages[@]}"; do
  files=("$debs/${package}"_*.deb)
  if [ ${#files[@]} -eq 0 ]; then
    echo "downloading $package" >&2
    (cd "$debs" && apt-get download "$package") >"$work/log" 2>&1 ||
      fail "apt-get could not download $package (Debian 12? lists of apt-get update current?):" \
        "$(grep '^E:' "$work/log")"
    files=("$debs/${package}"_*.deb)
  fi
  [ ${#files[@]} -eq 1 ] || fail "$debs holds ${#files[@]} files of $package, not one"
  dpkg-deb -x "${files[0]}" "$work/root" || fail "cannot unpack ${files[0]}"
  versions+=("$package $(dpkg-deb -f "${files[0]}" Version)")
done
sources=("$work"/root/usr/src/glibc/glibc-*.tar.xz)
[ ${#sources[@]} -eq 1 ] || fail "glibc-source does not hold one source archive"
mkdir "$work/root/glibc"
tar -xJf "${sources[0]}" -C "$work/root/glibc" --wildcards '*.[ch]' ||
  fail "cannot unpack the source archive of glibc-source"

"$here/with-tokenizer.sh" text-trace.mjs "$work/root" "$tokens" "$out" ${KIND:+"$KIND"}
printf -v list ', %s' "${versions[@]}"
echo "packages: ${list:2}"
sha256sum "$out"
