#!/bin/sh
# Makes a certificate authority, a server certificate and a client certificate, for a lab without a certificate
# authority.
#
#   make-certificates.sh FOLDER [NAME...]
#
# NAMEs are the host names and addresses that clients use for the server; localhost, 127.0.0.1 and ::1 are always added.
# If FOLDER already contains an authority, the script keeps the authority and renews the two certificates.
# Keep ca.key away from the server: everyone who has ca.key can pretend to be the server.
set -eu
umask 077

folder=${1:?usage: make-certificates.sh FOLDER [NAME...]}
shift
mkdir -p "$folder"
cd "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

names='DNS:localhost,IP:127.0.0.1,IP:::1'
for name in "$@"; do
    case $name in
        *[!0-9A-Za-z.:*-]* | '') echo "make-certificates.sh: '$name' is not a host name or address" >&2; exit 2 ;;
        *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$name" ;;
        *) names="$names,DNS:$name" ;;
    esac
done

# sign NAME DAYS SUBJECT EXTENSIONS: makes NAME.key and NAME.pem; replaces old files only after both new files exist.
sign() {
    printf '%s\n' "$4" > "$work/extensions"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" \
        -keyout "$work/key" -out "$work/request" 2> "$work/said" || { cat "$work/said" >&2; exit 1; }
    openssl x509 -req -in "$work/request" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
        -days "$2" -sha256 -extfile "$work/extensions" -out "$work/pem" 2> "$work/said" || { cat "$work/said" >&2; exit 1; }
    mv "$work/key" "$1.key"
    mv "$work/pem" "$1.pem"
    chmod 644 "$1.pem"
}

if [ ! -e ca.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 3650 \
        -subj '/CN=Twinscope authority' -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout "$work/key" -out "$work/pem" 2> "$work/said" \
        || { cat "$work/said" >&2; exit 1; }
    mv "$work/pem" ca.pem
    mv "$work/key" ca.key
    chmod 644 ca.pem
fi
common='basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature'
sign server 397 "${1:-localhost}" "$common
extendedKeyUsage=serverAuth
subjectAltName=$names"
sign client 397 twinscope-client "$common
extendedKeyUsage=clientAuth"
echo "Made in $folder: ca.pem, server.pem and server.key ($names), client.pem and client.key, valid for 397 days."
