// SPDX-License-Identifier: GPL-2.0-or-later

package aaatest

import (
	"crypto/md5" //nolint:gosec // RFC 2831
	"encoding/hex"
	"fmt"
	"net/netip"

	"ddtb/aaa"
)

// Client is the outer address that logins made here come from.
var Client = netip.MustParseAddrPort("192.0.2.10:40000")

// Login is what a client that knows name and password would send by mechanism m, to a server of the given realm.
func Login(m aaa.Mechanism, name, realm, password string) aaa.Login {
	login := aaa.Login{Client: Client, Server: netip.MustParseAddrPort("192.0.2.1:3653")}
	switch m {
	case aaa.MechanismAnonymous:
		login.Credential = aaa.Anonymous{}
	case aaa.MechanismPlain:
		login.Credential = aaa.Password{Username: name, Password: password}
	case aaa.MechanismDigestMD5:
		login.Credential = Digest(name, realm, password)
	case aaa.MechanismCramMD5:
		c := aaa.Cram{Username: name, Challenge: "<1896.697170952@postoffice.reston.mci.net>"}
		c.Response = c.Respond(aaa.NewCramKey(password))
		login.Credential = c
	default:
		panic(fmt.Sprintf("mechanism %q is not known here", m))
	}
	return login
}

// Digest is a complete DIGEST-MD5 response of a client that follows RFC 2831.
func Digest(name, realm, password string) aaa.Digest {
	d := aaa.Digest{
		Username: name, Realm: realm, Nonce: "OA6MG9tEQGm2hh", CNonce: "OA6MHXh6VqTrRk", NC: "00000001",
		QOP: "auth", URI: "tsp/" + realm, UTF8: true,
	}
	d.Response = d.Respond(aaa.NewHA1(name, realm, password))
	return d
}

// respondCut is the response of a client that takes H(A1) for the MD5 of what is left of the raw hash.
func respondCut(d aaa.Digest, left []byte) string {
	hash := func(s string) string {
		sum := md5.Sum([]byte(s)) //nolint:gosec // RFC 2831
		return hex.EncodeToString(sum[:])
	}
	return hash(hash(string(left)) + ":" + d.Nonce + ":" + d.NC + ":" + d.CNonce + ":" + d.QOP + ":" + hash("AUTHENTICATE:"+d.URI))
}
