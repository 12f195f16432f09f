// SPDX-License-Identifier: GPL-2.0-or-later

package sasl

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// digestService is the serv-type of digest-uri in TSP (RFC 5572 figure 12).
const digestService = "tsp"

// HA1 is H(username:realm:password) of RFC 2831 section 2.1.2.1, as good as the password within its realm.
type HA1 [md5.Size]byte

// NewHA1 computes it from UTF-8: each of the three is hashed as ISO 8859-1 if it can be written so, as the RFC demands.
func NewHA1(user, realm, password string) HA1 {
	for _, s := range []*string{&user, &realm, &password} {
		*s, _ = toLatin1(*s)
	}
	return md5.Sum([]byte(user + ":" + realm + ":" + password))
}

// Format keeps every verb from printing it.
func (h HA1) Format(f fmt.State, _ rune) { io.WriteString(f, "HA1") }

// Proofs computes what c.Response ought to be and the rspauth the server answers with (RFC 2831 sections 2.1.2.1 and
// 2.1.3), 32 lower-case hex digits each. The session key is made from the hash's raw octets, whole: some clients at protocol version 2.0.0
// cut it at its first NUL, a form in which one hash in 256 stands for the empty string, and which is never accepted.
func (h HA1) Proofs(c DigestCredential) (response, rspauth string) {
	a1 := string(h[:]) + ":" + c.Nonce + ":" + c.CNonce
	if c.AuthzID != "" {
		a1 += ":" + c.AuthzID
	}
	middle := ":" + c.Nonce + ":" + c.NC + ":" + c.CNonce + ":" + c.QOP + ":"
	a1 = hexMD5(a1)
	return hexMD5(a1 + middle + hexMD5("AUTHENTICATE:"+c.URI)), hexMD5(a1 + middle + hexMD5(":"+c.URI))
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// digestServer sends one challenge and reads one response.
type digestServer struct{ realm, nonce string }

func newDigestServer(realm string, random io.Reader) (Server, error) {
	if err := ValidateRealm(realm); err != nil {
		return nil, err
	}
	nonce, err := newNonce(random)
	if err != nil {
		return nil, err
	}
	return digestServer{realm: realm, nonce: nonce}, nil
}

func (s digestServer) Start() ([]byte, Credential) {
	return encode(`realm="` + s.realm + `",nonce="` + s.nonce + `",qop="auth",algorithm=md5-sess,charset=utf-8`), nil
}

func (s digestServer) Next(response []byte) ([]byte, Credential, error) {
	token, err := decode(response)
	if err != nil {
		return nil, nil, err
	}
	c, err := parseDigestResponse(string(token))
	if err != nil {
		return nil, nil, err
	}
	if c.Nonce != s.nonce || c.Realm != s.realm {
		return nil, nil, fmt.Errorf("%w: nonce or realm of another challenge", ErrMalformed)
	}
	return nil, c, nil
}

// Success encodes rspauth: clients in the field crash without it.
func (digestServer) Success(proof string) []byte { return encode("rspauth=" + proof) }

// parseDigestResponse reads a digest-response (RFC 2831 section 2.1.2). Directives it does not know are skipped.
func parseDigestResponse(token string) (DigestCredential, error) {
	c := DigestCredential{QOP: "auth"}
	seen := 0
	err := parseDirectives(token, func(name, value string) error {
		field, bit := c.field(name)
		if bit == 0 {
			return nil
		}
		if seen&bit != 0 {
			return fmt.Errorf("%w: directive %s twice", ErrMalformed, name)
		}
		seen |= bit
		if field == nil {
			c.UTF8 = true
			return checkCharset(value)
		}
		*field = value
		return nil
	})
	if err != nil {
		return DigestCredential{}, err
	}
	return c, checkDigest(&c)
}

// field is where the value of a directive goes, nil for the charset, and a bit of its own; 0 if there is no such directive.
func (c *DigestCredential) field(name string) (field *string, bit int) {
	switch name {
	case "username":
		return &c.Username, 1 << 0
	case "realm":
		return &c.Realm, 1 << 1
	case "nonce":
		return &c.Nonce, 1 << 2
	case "cnonce":
		return &c.CNonce, 1 << 3
	case "nc":
		return &c.NC, 1 << 4
	case "qop":
		return &c.QOP, 1 << 5
	case "digest-uri":
		return &c.URI, 1 << 6
	case "response":
		return &c.Response, 1 << 7
	case "authzid":
		return &c.AuthzID, 1 << 8
	case "charset":
		return nil, 1 << 9
	}
	return nil, 0
}

// checkCharset knows the one value of RFC 2831, and how RFC 5572's own example spells it.
func checkCharset(value string) error {
	if !strings.EqualFold(value, "utf-8") && !strings.EqualFold(value, "utf8") {
		return fmt.Errorf("%w: charset %.20q, want utf-8", ErrMalformed, value)
	}
	return nil
}

// checkDigest looks at what can be judged without the password.
func checkDigest(c *DigestCredential) (err error) {
	service, host, _ := strings.Cut(c.URI, "/")
	switch {
	case c.Username == "" || len(c.Username) > maxName || !printable(c.User()):
		return fmt.Errorf("%w: DIGEST-MD5 name is not text of 1 to %d octets", ErrMalformed, maxName)
	case c.Nonce == "" || c.CNonce == "":
		return fmt.Errorf("%w: DIGEST-MD5 without nonce or cnonce", ErrMalformed)
	case c.NC != "00000001":
		return fmt.Errorf("%w: DIGEST-MD5 nonce count %.20q, want 00000001", ErrMalformed, c.NC)
	case c.QOP != "auth":
		return fmt.Errorf("%w: DIGEST-MD5 qop %.20q, want auth", ErrMalformed, c.QOP)
	case !strings.EqualFold(service, digestService) || host == "":
		return fmt.Errorf("%w: DIGEST-MD5 digest-uri %.40q, want tsp/HOST", ErrMalformed, c.URI)
	}
	c.Response, err = hexDigest([]byte(c.Response))
	return err
}

// digestClient answers one challenge and checks one rspauth.
type digestClient struct {
	identity Identity
	cnonce   string
	rspauth  string // what the server has to show, once the challenge was answered
	done     bool
}

func newDigestClient(identity Identity, random io.Reader) (Client, error) {
	cnonce, err := newNonce(random)
	if err != nil {
		return nil, err
	}
	return &digestClient{identity: identity, cnonce: cnonce}, nil
}

func (c *digestClient) First() bool { return false }

func (c *digestClient) Done() bool { return c.done }

func (c *digestClient) Next(challenge []byte) ([]byte, error) {
	token, err := decode(challenge)
	if err != nil {
		return nil, err
	}
	if c.rspauth == "" {
		return c.answer(string(token))
	}
	return nil, c.verify(string(token))
}

// answer makes the digest-response.
func (c *digestClient) answer(token string) ([]byte, error) {
	challenge, err := parseDigestChallenge(token)
	if err != nil {
		return nil, err
	}
	user, charset := c.identity.User, "charset=utf-8,"
	if !challenge.utf8 {
		var ok bool
		if user, ok = toLatin1(user); !ok {
			return nil, fmt.Errorf("%w: the server does not take UTF-8 names", ErrMalformed)
		}
		charset = ""
	}
	credential := DigestCredential{Username: user, Realm: challenge.realm, Nonce: challenge.nonce, CNonce: c.cnonce,
		NC: "00000001", QOP: "auth", URI: digestService + "/" + c.identity.Host, UTF8: challenge.utf8}
	realm := challenge.realm
	if !challenge.utf8 {
		realm = fromLatin1(realm)
	}
	credential.Response, c.rspauth = NewHA1(c.identity.User, realm, c.identity.Password).Proofs(credential)
	return encode(charset + "username=" + quote(credential.Username) + ",realm=" + quote(credential.Realm) +
		",nonce=" + quote(credential.Nonce) + ",nc=" + credential.NC + ",cnonce=" + quote(credential.CNonce) +
		",digest-uri=" + quote(credential.URI) + ",response=" + credential.Response + ",qop=" + credential.QOP), nil
}

// verify checks the server's rspauth.
func (c *digestClient) verify(token string) error {
	var rspauth string
	err := parseDirectives(token, func(name, value string) error {
		if name == "rspauth" {
			rspauth = value
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.done || subtle.ConstantTimeCompare([]byte(strings.ToLower(rspauth)), []byte(c.rspauth)) != 1 {
		return fmt.Errorf("%w: wrong rspauth", ErrProof)
	}
	c.done = true
	return nil
}

// digestChallenge is what a client needs of a digest-challenge.
type digestChallenge struct {
	realm, nonce string
	utf8         bool
}

// parseDigestChallenge reads a digest-challenge (RFC 2831 section 2.1.1). Of several realms the first is taken.
func parseDigestChallenge(token string) (digestChallenge, error) {
	var c digestChallenge
	qop, algorithm, realms := "auth", "md5-sess", 0
	err := parseDirectives(token, func(name, value string) error {
		switch name {
		case "realm":
			if realms++; realms == 1 {
				c.realm = value
			}
		case "nonce":
			if c.nonce != "" {
				return fmt.Errorf("%w: nonce twice", ErrMalformed)
			}
			c.nonce = value
		case "qop":
			qop = value
		case "algorithm":
			algorithm = value
		case "charset":
			c.utf8 = true
			return checkCharset(value)
		}
		return nil
	})
	switch {
	case err != nil:
		return c, err
	case c.nonce == "":
		return c, fmt.Errorf("%w: DIGEST-MD5 challenge without nonce", ErrMalformed)
	case !strings.EqualFold(algorithm, "md5-sess"):
		return c, fmt.Errorf("%w: DIGEST-MD5 algorithm %.20q, want md5-sess", ErrMalformed, algorithm)
	case !offersAuth(qop):
		return c, fmt.Errorf("%w: DIGEST-MD5 qop %.40q, want auth", ErrMalformed, qop)
	}
	return c, nil
}

func offersAuth(qop string) bool {
	for option := range strings.SplitSeq(qop, ",") {
		if strings.EqualFold(strings.Trim(option, blanks), "auth") {
			return true
		}
	}
	return false
}
