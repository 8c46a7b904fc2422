// Command kms-softhsm is a plugin for keys in a PKCS #11 token: installed as
// sigstore-kms-softhsm, it signs for keys called softhsm://LABEL. It needs no cgo, as it
// leaves the token to pkcs11-tool (Debian package opensc), and serves any token that this
// tool can drive: SoftHSM in tests, a smart card or a network HSM elsewhere.
//
//	go build -o /usr/local/libexec/twinkeel/sigstore-kms-softhsm ./examples/kms-softhsm
//	export PKCS11_MODULE=/usr/lib/softhsm/libsofthsm2.so PKCS11_TOKEN=twinkeel PKCS11_PIN_FILE=pin
//	twinkeel-server key import site/keys release --kms softhsm://release --create \
//	    --plugins /usr/local/libexec/twinkeel
//
// Keys are ECDSA P-256, made in the token and never outside of it. The program speaks
// sigstore's plugin protocol, version v1: the request is JSON in the second argument, a
// message to be signed comes on standard input, the answer is JSON on standard output.
package main
