// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

const realm = "isp.example"

// verify is what a backend does: it knows the passwords.
func verify(t *testing.T, credential Credential, password string) (ok bool, proof string) {
	t.Helper()
	switch c := credential.(type) {
	case AnonymousCredential:
		return true, ""
	case PlainCredential:
		return c.Password == password, ""
	case DigestCredential:
		response, rspauth := NewHA1(c.User(), c.Realm, password).Proofs(c)
		return c.Response == response, rspauth
	case CramCredential:
		return c.Response == CramResponse(password, c.Challenge), ""
	}
	t.Fatalf("unknown credential %T", credential)
	return false, ""
}

// talk runs both sides of a mechanism against each other, and tells what the server collected and what the client made of the proof.
func talk(t *testing.T, mechanism Mechanism, identity Identity, password string) (Credential, bool, error) {
	t.Helper()
	server, err := NewServer(mechanism, realm, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client, err := NewClient(mechanism, identity, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	challenge, credential := server.Start()
	for rounds := 0; credential == nil; rounds++ {
		if rounds > 3 {
			t.Fatal("no end")
		}
		if client.First() != (len(challenge) == 0) {
			t.Fatalf("client.First() = %v, challenge %q", client.First(), challenge)
		}
		response, err := client.Next(challenge)
		if err != nil {
			return nil, false, err
		}
		if challenge, credential, err = server.Next(response); err != nil {
			return nil, false, err
		}
	}
	ok, proof := verify(t, credential, password)
	if final := server.Success(proof); len(final) > 0 {
		if client.Done() {
			t.Error("client is done before the server proved itself")
		}
		if _, err := client.Next(final); err != nil {
			return credential, ok, err
		}
	}
	if !client.Done() {
		t.Error("client is not done at the end")
	}
	return credential, ok, nil
}

func TestMechanisms(t *testing.T) {
	identities := []Identity{
		{User: "alice", Password: "s3cret pw", Host: "192.0.2.1"},
		{User: `we"ird\us er`, Password: `pä"ss\w%{x} ',=`, Host: "broker.isp.example:3653"},
		{User: "müller", Password: "geheimß", Host: "[2001:db8::1]"}, // all of it ISO 8859-1
		{User: "Жанна", Password: "日本", Host: "h"},                   // none of it
	}
	for _, mechanism := range []Mechanism{Anonymous, Plain, DigestMD5, CramMD5} {
		for _, identity := range identities {
			t.Run(fmt.Sprintf("%s/%s", mechanism, identity.User), func(t *testing.T) {
				credential, ok, err := talk(t, mechanism, identity, identity.Password)
				if err != nil || !ok {
					t.Fatalf("ok %v, error %v", ok, err)
				}
				if credential.Mechanism() != mechanism {
					t.Errorf("credential of %s", credential.Mechanism())
				}
				if mechanism == Anonymous {
					return
				}
				if credential.User() != identity.User {
					t.Errorf("user %q", credential.User())
				}
				if _, ok, err = talk(t, mechanism, identity, "another"); ok {
					t.Error("wrong password accepted")
				}
				if mechanism == DigestMD5 && !errors.Is(err, ErrProof) {
					t.Errorf("client took the proof of a server with another password: %v", err)
				}
			})
		}
	}
}

func TestUnknownMechanism(t *testing.T) {
	if _, err := NewServer("PASSDSS-3DES-1", realm, rand.Reader); !errors.Is(err, ErrUnknownMechanism) {
		t.Error(err)
	}
	if _, err := NewClient("", Identity{}, rand.Reader); !errors.Is(err, ErrUnknownMechanism) {
		t.Error(err)
	}
}

// TestRFC2195 is the example of RFC 2195 section 2.
func TestRFC2195(t *testing.T) {
	client, _ := NewClient(CramMD5, Identity{User: "tim", Password: "tanstaaftanstaaf"}, rand.Reader)
	response, err := client.Next([]byte("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"))
	if err != nil || string(response) != "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw" {
		t.Errorf("%s %v", response, err)
	}
}

// TestCramLatin1: a name in ISO 8859-1 is read as such, as with PLAIN.
func TestCramLatin1(t *testing.T) {
	server := cramServer{challenge: "<1@r>"}
	_, got, err := server.Next(encode("jos\xe9 " + CramResponse("s3cret", "<1@r>")))
	if err != nil || got.User() != "josé" {
		t.Errorf("%v %v", got, err)
	}
}

func TestPlainForms(t *testing.T) {
	want := PlainCredential{Username: "alice", Password: "s3cret pw"}
	for _, message := range []string{
		"\x00alice\x00s3cret pw",     // RFC 4616, raw
		"\x00\x00alice\x00s3cret pw", // behind the NUL that ends AUTHENTICATE PLAIN
		base64.StdEncoding.EncodeToString([]byte("\x00alice\x00s3cret pw")),
		"\x00" + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00s3cret pw")),
		" " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00s3cret pw")) + " ",
		base64.RawStdEncoding.EncodeToString([]byte("\x00alice\x00s3cret pw")),
	} {
		_, got, err := plainServer{}.Next([]byte(message))
		if err != nil || got != want {
			t.Errorf("%q: %v %v", message, got, err)
		}
	}
	longest := strings.Repeat("p", 256) // what accounts may have
	if _, got, err := (plainServer{}).Next([]byte("\x00alice\x00" + longest)); err != nil || got != (PlainCredential{Username: "alice", Password: longest}) {
		t.Errorf("the longest password: %v", err)
	}
	_, got, err := plainServer{}.Next([]byte("other\x00m\xfcller\x00\xdf"))
	if err != nil || got != (PlainCredential{AuthzID: "other", Username: "müller", Password: "ß"}) {
		t.Errorf("%v %v", got, err)
	}
}

// TestChallengeSize: MaxRealm keeps a challenge within three times the client's datagram, 28 octets of IP and UDP and 8 of TSP
// header counted on both.
func TestChallengeSize(t *testing.T) {
	for _, mechanism := range []Mechanism{DigestMD5, CramMD5} {
		server, err := NewServer(mechanism, strings.Repeat("r", MaxRealm), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		challenge, _ := server.Start()
		request, reply := 28+8+len("AUTHENTICATE \r\n")+len(mechanism), 28+8+len(challenge)+len("\r\n")
		if reply > 3*request {
			t.Errorf("%s: %d octets for %d", mechanism, reply, request)
		}
	}
}

func TestMalformed(t *testing.T) {
	good := `charset=utf-8,username="u",realm="isp.example",nonce="n",nc=00000001,cnonce="c",digest-uri="tsp/h",` +
		`response=f8e42b3c50c59771853f6274fcffd1ca,qop=auth`
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatal(old)
		}
		return string(encode(strings.Replace(good, old, new, 1)))
	}
	digest, cram := digestServer{realm: realm, nonce: "n"}, cramServer{challenge: "<n@r>"}
	if _, _, err := digest.Next(encode(good)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		server   Server
		response string
	}{
		"anonymous with message":   {anonymousServer{}, "trace"},
		"plain empty":              {plainServer{}, ""},
		"plain two fields":         {plainServer{}, "alice\x00pw"},
		"plain four fields":        {plainServer{}, "a\x00b\x00c\x00d"},
		"plain no name":            {plainServer{}, "\x00\x00pw"},
		"plain no password":        {plainServer{}, "\x00alice\x00"},
		"plain long":               {plainServer{}, "\x00" + strings.Repeat("a", 256) + "\x00pw"},
		"plain long password":      {plainServer{}, "\x00alice\x00" + strings.Repeat("p", 257)},
		"plain control character":  {plainServer{}, "\x00al\nice\x00pw"},
		"plain bad base64":         {plainServer{}, "!!!"},
		"cram bad base64":          {cram, "\x00x"},
		"cram no blank":            {cram, string(encode("alice"))},
		"cram no name":             {cram, string(encode(" b913a602c7eda7a495b4e6e7334d3890"))},
		"cram short":               {cram, string(encode("alice b913a602c7eda7a495b4e6e7334d38"))},
		"cram not hex":             {cram, string(encode("alice g913a602c7eda7a495b4e6e7334d3890"))},
		"cram long name":           {cram, string(encode(strings.Repeat("a", 256) + " b913a602c7eda7a495b4e6e7334d3890"))},
		"digest bad base64":        {digest, "===="},
		"digest empty":             {digest, ""},
		"digest other nonce":       {digest, replace(`nonce="n"`, `nonce="m"`)},
		"digest other realm":       {digest, replace(`isp.example`, `other`)},
		"digest no cnonce":         {digest, replace(`cnonce="c",`, ``)},
		"digest nonce count":       {digest, replace(`00000001`, `00000002`)},
		"digest qop":               {digest, replace(`qop=auth`, `qop=auth-int`)},
		"digest other service":     {digest, replace(`tsp/h`, `imap/h`)},
		"digest no host":           {digest, replace(`tsp/h`, `tsp`)},
		"digest charset":           {digest, replace(`utf-8`, `koi8-r`)},
		"digest twice":             {digest, replace(`qop=auth`, `qop=auth,username="v"`)},
		"digest charset twice":     {digest, replace(`qop=auth`, `charset=utf-8`)},
		"digest open quote":        {digest, replace(`"c"`, `"c`)},
		"digest quote escape":      {digest, string(encode(good + `,x="\`))},
		"digest behind quote":      {digest, replace(`"c"`, `"c"d`)},
		"digest half quoted":       {digest, replace(`"c"`, `c"d"`)},
		"digest no value":          {digest, replace(`"c"`, ``)},
		"digest no name":           {digest, replace(`cnonce`, ``)},
		"digest no equals":         {digest, replace(`cnonce="c"`, `cnonce`)},
		"digest response length":   {digest, replace(`f8e4`, ``)},
		"digest response not hex":  {digest, replace(`f8e4`, `x8e4`)},
		"digest user control":      {digest, replace(`"u"`, "\"a\nb\"")},
		"digest user too long":     {digest, replace(`"u"`, `"`+strings.Repeat("u", 256)+`"`)},
		"digest directive in name": {digest, replace(`cnonce="c"`, `"cnonce"=c`)},
	} {
		if _, c, err := test.server.Next([]byte(test.response)); !errors.Is(err, ErrMalformed) || c != nil && err == nil {
			t.Errorf("%s: %v %v", name, c, err)
		}
	}
}

func TestClientChallenges(t *testing.T) {
	for name, test := range map[string]struct {
		mechanism  Mechanism
		challenges []string
		want       error
	}{
		"anonymous":             {Anonymous, []string{"x"}, ErrMalformed},
		"plain challenged":      {Plain, []string{"x"}, ErrMalformed},
		"plain twice":           {Plain, []string{"", ""}, ErrMalformed},
		"cram empty":            {CramMD5, []string{""}, ErrMalformed},
		"cram not base64":       {CramMD5, []string{"!"}, ErrMalformed},
		"cram twice":            {CramMD5, []string{"PD4=", "PD4="}, ErrMalformed},
		"digest not base64":     {DigestMD5, []string{"!"}, ErrMalformed},
		"digest no nonce":       {DigestMD5, []string{string(encode(`realm="r"`))}, ErrMalformed},
		"digest two nonces":     {DigestMD5, []string{string(encode(`nonce="r",nonce="s"`))}, ErrMalformed},
		"digest algorithm":      {DigestMD5, []string{string(encode(`nonce="r",algorithm=sha`))}, ErrMalformed},
		"digest qop":            {DigestMD5, []string{string(encode(`nonce="r",qop="auth-int"`))}, ErrMalformed},
		"digest charset":        {DigestMD5, []string{string(encode(`nonce="r",charset=x`))}, ErrMalformed},
		"digest two realms":     {DigestMD5, []string{string(encode(`realm="a",realm="b",nonce="r",qop="auth-int, auth"`))}, nil},
		"digest no proof":       {DigestMD5, []string{string(encode(`nonce="r"`)), string(encode(`x=y`))}, ErrProof},
		"digest wrong proof":    {DigestMD5, []string{string(encode(`nonce="r"`)), string(encode(`rspauth=00`))}, ErrProof},
		"digest proof unclosed": {DigestMD5, []string{string(encode(`nonce="r"`)), string(encode(`rspauth="00`))}, ErrMalformed},
	} {
		client, err := NewClient(test.mechanism, Identity{User: "u", Password: "p", Host: "h"}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, challenge := range test.challenges {
			_, err = client.Next([]byte(challenge))
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestNonces(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		nonce, err := newNonce(rand.Reader)
		if err != nil || len(nonce) != 16 || seen[nonce] || strings.ContainsAny(nonce, `,="\`) {
			t.Fatalf("%q %v", nonce, err)
		}
		seen[nonce] = true
	}
	for _, mechanism := range []Mechanism{DigestMD5, CramMD5} {
		if _, err := NewServer(mechanism, realm, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s without chance: %v", mechanism, err)
		}
	}
	if _, err := NewClient(DigestMD5, Identity{}, strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("client without chance: %v", err)
	}
}

func TestValidateRealm(t *testing.T) {
	for realm, ok := range map[string]bool{
		"isp.example": true, "réalm": true, strings.Repeat("r", MaxRealm): true,
		"": false, "a,b": false, `a"b`: false, `a\b`: false, "a\nb": false, "\xff": false, strings.Repeat("r", MaxRealm+1): false,
	} {
		err := ValidateRealm(realm)
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrRealm) {
			t.Errorf("%q: %v", realm, err)
		}
		for _, mechanism := range []Mechanism{DigestMD5, CramMD5} {
			if _, err := NewServer(mechanism, realm, rand.Reader); (err == nil) != ok {
				t.Errorf("%s with realm %q: %v", mechanism, realm, err)
			}
		}
	}
}

// TestSecretsStayInside prints credentials in every way there is.
func TestSecretsStayInside(t *testing.T) {
	const secret = "5ec2e7"
	for _, credential := range []Credential{
		PlainCredential{Username: "alice", Password: secret},
		DigestCredential{Username: "alice", Response: secret, UTF8: true},
		CramCredential{Username: "alice", Response: secret},
	} {
		encoded, err := json.Marshal(credential)
		if err != nil {
			t.Fatal(err)
		}
		printed := string(encoded) + fmt.Sprintf("%v %+v %#v %s %q %x %d %T", credential, credential, credential, credential, credential,
			credential, credential, credential) + fmt.Sprint(credential, []Credential{credential}, struct{ C Credential }{credential})
		if strings.Contains(printed, secret) || strings.Contains(printed, fmt.Sprintf("%x", secret)) {
			t.Errorf("secret in %s", printed)
		}
		if !strings.Contains(printed, "alice") {
			t.Errorf("no name in %s", printed)
		}
	}
	ha1 := NewHA1("u", "r", "p")
	if printed := fmt.Sprintf("%v %x %d", ha1, ha1, ha1); strings.Contains(printed, fmt.Sprintf("%x", ha1[:2])) {
		t.Errorf("HA1 in %s", printed)
	}
	if printed := fmt.Sprint(AnonymousCredential{}, AnonymousCredential{}.User()); printed != "ANONYMOUS" {
		t.Errorf("%q", printed)
	}
}
