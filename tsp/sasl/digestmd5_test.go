// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"errors"
	"fmt"
	"testing"
)

// TestRFC5572Figure12 recomputes the only DIGEST-MD5 exchange the RFC prints. Its password is "password".
func TestRFC5572Figure12(t *testing.T) {
	const response = `charset=utf8,username="username1",realm="hexos",nonce="1113908968",nc=00000001,cnonce="1113923311",` +
		`digest-uri="tsp/hexos",response=f8e42b3c50c59771853f6274fcffd1ca,qop=auth`
	server := digestServer{realm: "hexos", nonce: "1113908968"}
	_, credential, err := server.Next(encode(response))
	if err != nil {
		t.Fatal(err)
	}
	want := DigestCredential{Username: "username1", Realm: "hexos", Nonce: "1113908968", CNonce: "1113923311", NC: "00000001",
		QOP: "auth", URI: "tsp/hexos", Response: "f8e42b3c50c59771853f6274fcffd1ca", UTF8: true}
	if credential != want {
		t.Errorf("%#v", credential)
	}
	ok, proof := verify(t, credential, "password")
	if !ok || proof != "70d5cabc9235568be380ba2c907381fe" {
		t.Errorf("ok %v, rspauth %s", ok, proof)
	}

	client := &digestClient{identity: Identity{User: "username1", Password: "password", Host: "hexos"}, cnonce: "1113923311"}
	answer, err := client.Next(encode("realm=hexos,nonce=1113908968,qop=auth,algorithm=md5-sess,charset=utf8"))
	if err != nil {
		t.Fatal(err)
	}
	token, _ := decode(answer)
	if got, err := parseDigestResponse(string(token)); err != nil || got != want {
		t.Errorf("client answers %s: %v", token, err)
	}
	if _, err := client.Next(encode("rspauth=70d5cabc9235568be380ba2c907381fe")); err != nil || !client.Done() {
		t.Error("rspauth of the RFC refused:", err)
	}
}

// TestHA1Charset: RFC 2831 section 2.1.2.1 hashes what fits as ISO 8859-1, each value for itself.
func TestHA1Charset(t *testing.T) {
	for _, test := range []struct{ user, realm, password, hashed string }{
		{"u", "r", "p", "u:r:p"},
		{"ü", "é", "ß", "\xfc:\xe9:\xdf"},
		{"Ж", "é", "日", "Ж:\xe9:日"},
	} {
		if got, want := NewHA1(test.user, test.realm, test.password), hexMD5(test.hashed); fmt.Sprintf("%x", got[:]) != want {
			t.Errorf("%q: %x, want %s", test, got[:], want)
		}
	}
}

// TestDigestLatin1 is a client that knows no UTF-8: no charset directive, octets of ISO 8859-1.
func TestDigestLatin1(t *testing.T) {
	client := &digestClient{identity: Identity{User: "müller", Password: "ß", Host: "h"}, cnonce: "123456789"}
	answer, err := client.Next(encode(`realm="` + realm + `",nonce="n"`))
	if err != nil {
		t.Fatal(err)
	}
	_, credential, err := digestServer{realm: realm, nonce: "n"}.Next(answer)
	if err != nil {
		t.Fatal(err)
	}
	c := credential.(DigestCredential)
	if c.UTF8 || c.Username != "m\xfcller" || c.User() != "müller" {
		t.Errorf("%v %q", c.UTF8, c.Username)
	}
	if ok, _ := verify(t, c, "ß"); !ok {
		t.Error("login refused")
	}
	client = &digestClient{identity: Identity{User: "Жанна", Password: "x", Host: "h"}, cnonce: "1"}
	if _, err := client.Next(encode(`realm="r",nonce="n"`)); !errors.Is(err, ErrMalformed) {
		t.Error("a name that cannot be written was sent:", err)
	}
}

// TestDigestOtherCharset: a client that announces utf-8 and sends ISO 8859-1, as its configuration has it.
func TestDigestOtherCharset(t *testing.T) {
	c, err := parseDigestResponse(`charset=utf-8,username="m` + "\xfc" + `ller",realm="r",nonce="n",nc=00000001,cnonce="c",digest-uri="tsp/h",` +
		`response=f8e42b3c50c59771853f6274fcffd1ca,qop=auth`)
	if err != nil || c.User() != "müller" || c.Username != "m\xfcller" {
		t.Errorf("%q: %v", c.User(), err)
	}
}

func TestDigestLenient(t *testing.T) {
	server := digestServer{realm: realm, nonce: "n"}
	_, credential, err := server.Next(encode(` , CHARSET = utf-8 ,,username="a\"b" , realm=isp.example,nonce=n,nc=00000001,cnonce=123456789,` +
		`digest-uri="TSP/h:3653",response=F8E42B3C50C59771853F6274FCFFD1CA,maxbuf=1,`))
	want := DigestCredential{Username: `a"b`, Realm: realm, Nonce: "n", CNonce: "123456789", NC: "00000001", QOP: "auth",
		URI: "TSP/h:3653", Response: "f8e42b3c50c59771853f6274fcffd1ca", UTF8: true}
	if err != nil || credential != want {
		t.Errorf("%+v: %v", credential, err)
	}
}
