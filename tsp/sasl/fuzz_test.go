// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"bytes"
	"testing"
)

// Each target parses, and where it succeeds writes the value again and parses that: both must be equal.

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00alice\x00s3cret pw"))
	f.Add([]byte("\x00\x00alice\x00s3cretpw"))
	f.Add([]byte("AGFsaWNlAHMzY3JldA=="))
	f.Add([]byte("z\x00m\xfcller\x00\xdf"))
	f.Fuzz(func(t *testing.T, message []byte) {
		_, credential, err := plainServer{}.Next(message)
		if err != nil {
			return
		}
		c := credential.(PlainCredential)
		if c.Username == "" || c.Password == "" || !printable(c.Username) {
			t.Fatalf("%q %q", c.Username, c.Password)
		}
		_, again, err := plainServer{}.Next(encode(c.AuthzID + "\x00" + c.Username + "\x00" + c.Password))
		if len(c.AuthzID)+len(c.Username)+len(c.Password) <= maxName && (err != nil || again != credential) {
			t.Fatalf("%q became %q: %v", c.Username, again, err)
		}
	})
}

func FuzzDigestResponse(f *testing.F) {
	f.Add([]byte(`charset=utf8,username="username1",realm="hexos",nonce="1113908968",nc=00000001,cnonce="1113923311",` +
		`digest-uri="tsp/hexos",response=f8e42b3c50c59771853f6274fcffd1ca,qop=auth`))
	f.Add([]byte(`username="a\"b\\" , realm="",nonce=n,nc=00000001,cnonce=1,digest-uri=tsp/x,response=f8e42b3c50c59771853f6274fcffd1ca`))
	f.Fuzz(func(t *testing.T, token []byte) {
		c, err := parseDigestResponse(string(token))
		if err != nil {
			return
		}
		again := "username=" + quote(c.Username) + ",realm=" + quote(c.Realm) + ",nonce=" + quote(c.Nonce) + ",nc=" + c.NC +
			",cnonce=" + quote(c.CNonce) + ",digest-uri=" + quote(c.URI) + ",response=" + c.Response + ",qop=" + c.QOP +
			",authzid=" + quote(c.AuthzID)
		if c.UTF8 {
			again += ",charset=utf-8"
		}
		if d, err := parseDigestResponse(again); err != nil || d != c {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

func FuzzDigestChallenge(f *testing.F) {
	f.Add([]byte("realm=hexos,nonce=1113908968,qop=auth,algorithm=md5-sess,charset=utf8"))
	f.Add([]byte(`realm="a",realm="b",nonce="\"",qop="auth-int, auth"`))
	f.Fuzz(func(t *testing.T, token []byte) {
		c, err := parseDigestChallenge(string(token))
		if err != nil {
			return
		}
		again := "realm=" + quote(c.realm) + ",nonce=" + quote(c.nonce)
		if c.utf8 {
			again += ",charset=utf-8"
		}
		if d, err := parseDigestChallenge(again); err != nil || d != c {
			t.Fatalf("%s: %v", again, err)
		}
		client := &digestClient{identity: Identity{User: "u", Password: "p", Host: "h"}, cnonce: "c"}
		answer, err := client.Next(encode(string(token)))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.realm) > 0 {
			if _, _, err := (digestServer{realm: c.realm, nonce: c.nonce}).Next(answer); err != nil {
				t.Fatalf("own answer refused: %v", err)
			}
		}
	})
}

func FuzzDigestProof(f *testing.F) {
	f.Add([]byte("rspauth=70d5cabc9235568be380ba2c907381fe"))
	f.Fuzz(func(t *testing.T, token []byte) {
		const want = "70d5cabc9235568be380ba2c907381fe"
		client := &digestClient{rspauth: want}
		if client.verify(string(token)) == nil && !bytes.Contains(bytes.ToLower(token), []byte("rspauth")) {
			t.Fatalf("%q is no proof", token)
		}
	})
}

func FuzzCram(f *testing.F) {
	f.Add([]byte("tim b913a602c7eda7a495b4e6e7334d3890"))
	f.Add([]byte("a b  B913A602C7EDA7A495B4E6E7334D3890"))
	f.Fuzz(func(t *testing.T, token []byte) {
		server := cramServer{challenge: "<n@r>"}
		_, credential, err := server.Next(encode(string(token)))
		if err != nil {
			return
		}
		c := credential.(CramCredential)
		if _, again, err := server.Next(encode(c.Username + " " + c.Response)); err != nil || again != credential {
			t.Fatalf("%q: %v", c.Username, err)
		}
	})
}
