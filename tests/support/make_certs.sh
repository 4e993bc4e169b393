#!/bin/sh
# Certificates for tests: make_certs.sh DIRECTORY COMMAND...
#   ca NAME                           NAME.pem, NAME.key: a CA
#   cert NAME CA SANS [DAYS]          NAME.pem, NAME.key, signed by CA; SANS as openssl has them:
#                                     DNS:a.test,IP:127.0.0.1,URI:spiffe://test/x. DAYS -1: expired
# Several commands are divided by "--".
set -eu
cd "$1"
shift

make_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null; }

make_ca() {
  make_key "$1.key"
  openssl req -x509 -new -key "$1.key" -out "$1.pem" -days 30 -subj "/O=test/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE 2>/dev/null
}

make_cert() {
  make_key "$1.key"
  openssl req -new -key "$1.key" -subj "/O=test/CN=$1" -out "$1.csr" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -extfile "$1.ext" -out "$1.pem" \
    -set_serial "0x$(openssl rand -hex 8)" -days "${4:-30}" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

while [ $# -gt 0 ]; do
  case "$1" in
    ca) make_ca "$2"; shift 2 ;;
    cert)
      if [ $# -ge 5 ] && [ "$5" != -- ]; then make_cert "$2" "$3" "$4" "$5"; shift 5
      else make_cert "$2" "$3" "$4"; shift 4; fi ;;
    --) shift ;;
    *) echo "make_certs.sh: unknown command $1" >&2; exit 2 ;;
  esac
done
