// SPDX-License-Identifier: GPL-2.0-or-later

package aaa_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ddtb/aaa"
)

// figure12 is the dialogue of RFC 5572 figure 12; its password is "password".
func figure12() aaa.Digest {
	return aaa.Digest{
		Username: "username1", Realm: "hexos", Nonce: "1113908968", CNonce: "1113923311", NC: "00000001", QOP: "auth",
		URI: "tsp/hexos", Response: "f8e42b3c50c59771853f6274fcffd1ca", UTF8: true,
	}
}

func TestDigestFigure12(t *testing.T) {
	d := figure12()
	proof, ok := d.Verify(aaa.NewHA1("username1", "hexos", "password"))
	if !ok || proof != "70d5cabc9235568be380ba2c907381fe" {
		t.Errorf("verified %v, rspauth %s", ok, proof)
	}
	if got := d.Respond(aaa.NewHA1("username1", "hexos", "password")); got != d.Response {
		t.Errorf("response %s, want %s", got, d.Response)
	}
	if proof, ok := d.Verify(aaa.NewHA1("username1", "hexos", "passwort")); ok || proof != "" {
		t.Errorf("a wrong password: verified %v, rspauth %q", ok, proof)
	}
}

// RFC 2831 section 4, the IMAP example: password "secret".
func TestDigestRFC2831(t *testing.T) {
	d := aaa.Digest{
		Username: "chris", Realm: "elwood.innosoft.com", Nonce: "OA6MG9tEQGm2hh", CNonce: "OA6MHXh6VqTrRk", NC: "00000001", QOP: "auth",
		URI: "imap/elwood.innosoft.com", Response: "d388dad90d4bbd760a152321f2143af7", UTF8: true,
	}
	if proof, ok := d.Verify(aaa.NewHA1("chris", "elwood.innosoft.com", "secret")); !ok || proof != "ea40f60335c427b5527b84dbabcdfffd" {
		t.Errorf("verified %v, rspauth %s", ok, proof)
	}
}

func TestHA1Charset(t *testing.T) {
	for _, tc := range []struct{ name, password, hashed string }{
		{"jörg", "gemüse", "j\xf6rg:r:gem\xfcse"},
		{"jörg", "пароль", "j\xf6rg:r:пароль"}, // each by itself
		{"ПЁТР", "gemüse", "ПЁТР:r:gem\xfcse"},
		{"bad\xff", "p", "bad\xff:r:p"},
	} {
		if got, want := aaa.NewHA1(tc.name, "r", tc.password), aaa.HA1(md5.Sum([]byte(tc.hashed))); got != want {
			t.Errorf("%q %q: %x, want %x", tc.name, tc.password, got[:], want[:])
		}
		if got, want := aaa.NewRawHA1(tc.name, "r", tc.password), aaa.HA1(md5.Sum([]byte(tc.name+":r:"+tc.password))); got != want {
			t.Errorf("%q %q raw: %x, want %x", tc.name, tc.password, got[:], want[:])
		}
	}
}

// TestDigestAuthzID: who knows his own password may not act for somebody else by it.
func TestDigestAuthzID(t *testing.T) {
	ha1 := aaa.NewHA1("alice", "r", "secret")
	for authzid, want := range map[string]bool{"": true, "alice": true, "bob": false} {
		c := aaa.Digest{Username: "alice", Realm: "r", Nonce: "n", CNonce: "c", NC: "00000001", QOP: "auth", URI: "tsp/r", AuthzID: authzid}
		c.Response = c.Respond(ha1)
		if _, ok := c.Verify(ha1); ok != want {
			t.Errorf("alice for %q: %v", authzid, ok)
		}
	}
}

func TestName(t *testing.T) {
	for _, tc := range []struct {
		credential aaa.Credential
		want       string
	}{
		{aaa.Anonymous{}, ""},
		{aaa.Password{Username: "jörg"}, "jörg"},
		{aaa.Password{Username: "j\xf6rg"}, "jörg"},
		{aaa.Cram{Username: "j\xf6rg"}, "jörg"},
		{aaa.Digest{Username: "jörg", UTF8: true}, "jörg"},
		{aaa.Digest{Username: "j\xf6rg", UTF8: true}, "jörg"},
		{aaa.Digest{Username: "j\xf6rg"}, "jörg"},
		{aaa.Digest{Username: "\xc3\xb6"}, "Ã¶"},
	} {
		if got := aaa.Name(tc.credential); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.credential, got, tc.want)
		}
	}
}

// The chaining values must give what HMAC-MD5 with the password gives.
func TestCram(t *testing.T) {
	// RFC 2195 section 2.
	c := aaa.Cram{Username: "tim", Challenge: "<1896.697170952@postoffice.reston.mci.net>", Response: "b913a602c7eda7a495b4e6e7334d3890"}
	if !c.Verify(aaa.NewCramKey("tanstaaftanstaaf")) {
		t.Error("the example of RFC 2195 is refused")
	}
	if c.Verify(aaa.NewCramKey("tanstaaf")) {
		t.Error("a wrong password is accepted")
	}
	c.Response = c.Response[:31]
	if c.Verify(aaa.NewCramKey("tanstaaftanstaaf")) {
		t.Error("a cut response is accepted")
	}
	for _, n := range []int{0, 1, 55, 56, 63, 64, 65, 128, 200} {
		password := strings.Repeat("p", n)
		for _, m := range []int{0, 1, 55, 64, 300} {
			c := aaa.Cram{Challenge: strings.Repeat("c", m)}
			mac := hmac.New(md5.New, []byte(password))
			mac.Write([]byte(c.Challenge))
			if got, want := c.Respond(aaa.NewCramKey(password)), hex.EncodeToString(mac.Sum(nil)); got != want {
				t.Errorf("password of %d, challenge of %d: %s, want %s", n, m, got, want)
			}
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	const secret = "s3cr3t"
	ha1, key := aaa.NewHA1("u", "r", secret), aaa.NewCramKey(secret)
	for _, v := range []any{
		aaa.Password{Username: "u", Password: secret},
		aaa.Login{Credential: aaa.Password{Username: "u", Password: secret}},
		ha1, &ha1, key, &key,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, secret) || strings.Contains(out, hex.EncodeToString([]byte(secret))) ||
				strings.Contains(out, hex.EncodeToString(ha1[:4])) || strings.Contains(out, hex.EncodeToString(key.Inner[:4])) ||
				strings.Contains(out, fmt.Sprintf("%d %d", ha1[0], ha1[1])) {
				t.Errorf("%s of %T prints the secret: %s", verb, v, out)
			}
		}
		out, err := json.Marshal(v)
		if err != nil || bytes.Contains(out, []byte(secret)) || bytes.Contains(out, fmt.Appendf(nil, "%d,%d", ha1[0], ha1[1])) ||
			bytes.Contains(out, fmt.Appendf(nil, "%d,%d", key.Inner[0], key.Inner[1])) {
			t.Errorf("JSON of %T holds the secret: %s (%v)", v, out, err)
		}
	}
}
