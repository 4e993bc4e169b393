#!/usr/bin/env bash
# What the image consists of, and nothing else: the binaries, the libraries that they are linked to, and
# a user. No shell, no package manager.
#   deploy/image/rootfs.sh BUILD_DIR OUT    from a build, to a directory that is made
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: $0 BUILD_DIR OUT" >&2; exit 2; }
build=$1 out=$2
[ ! -e "$out" ] || { echo "error: $out is there already" >&2; exit 1; }

mkdir -p "$out"/usr/bin "$out"/etc "$out"/tmp
chmod 1777 "$out"/tmp
for binary in engramd engramctl; do
  cp "$build/bin/$binary" "$out/usr/bin/"
  strip --strip-unneeded "$out/usr/bin/$binary"
done
# "lib => /path (address)", or "/path (address)" of the loader itself.
ldd "$out"/usr/bin/* | awk '$2 == "=>" { print $3 } $1 ~ /^\// && $2 ~ /^\(/ { print $1 }' | sort -u |
  while read -r library; do
    mkdir -p "$out$(dirname "$library")"
    cp --dereference "$library" "$out$library"
  done
# Names are looked up by these, which are not linked but loaded.
for library in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do
  path=$(ldconfig -p | awk -v name="$library" '$1 == name && !seen++ { print $NF }')
  [ -z "$path" ] || { mkdir -p "$out$(dirname "$path")"; cp --dereference "$path" "$out$path"; }
done
echo 'engram:x:65532:65532:engram:/:/sbin/nologin' >"$out/etc/passwd"
echo 'engram:x:65532:' >"$out/etc/group"
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
du -sh "$out" >&2
