// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"layeh.com/radius"
	"layeh.com/radius/rfc5090"

	"ddtb/aaa"
)

// DigestMode says how DIGEST-MD5 (RFC 2831) is verified. No RADIUS server does it by itself: what they know as digest is the
// HTTP form, whose md5-sess hashes the hex of H(user:realm:password) where SASL hashes its octets, and they do not return
// rspauth. contrib/freeradius holds the policy that both modes need.
type DigestMode string

// The modes.
const (
	DigestOff  DigestMode = "off"         // not offered
	DigestSASL DigestMode = "radius-sasl" // the server verifies and returns Digest-Response-Auth
	DigestHA1  DigestMode = "radius-ha1"  // the server hands out HA1, salt-encrypted, and the response is verified here
)

// DigestStyle says by which attributes a response travels in mode DigestSASL.
type DigestStyle string

// The styles.
const (
	StyleSterman DigestStyle = "sterman" // 206 and 207, draft-sterman-aaa-sip: what servers know
	StyleRFC5090 DigestStyle = "rfc5090" // 103 and following
)

// DocumentationVendor is the enterprise number of RFC 5612, which our vendor attributes use unless the site has its own.
const DocumentationVendor = 32473

// Our vendor attributes, as contrib/freeradius/dictionary.ddtb has them.
const (
	vendorMechanism     = 1 // DDTB-SASL-Mechanism
	vendorCramChallenge = 2 // DDTB-CRAM-Challenge
	vendorCramResponse  = 3 // DDTB-CRAM-Response
	vendorStoredHA1     = 4 // DDTB-Stored-HA1, encrypt=2 (RFC 2868 section 3.5)
)

var errNoProof = errors.New("the server accepted the response but sent no Digest-Response-Auth: is the policy of contrib/freeradius installed?")

// digest asks for a DIGEST-MD5 response to be verified.
func (a *Authenticator) digest(c aaa.Digest) func(context.Context, aaa.Login) (*Reply, string, error) {
	if a.o.Digest == DigestHA1 {
		return func(ctx context.Context, login aaa.Login) (*Reply, string, error) { return a.digestHA1(ctx, login, c) }
	}
	return func(ctx context.Context, login aaa.Login) (*Reply, string, error) {
		reply, err := a.request(ctx, login, c.Username, func(p *radius.Packet) error {
			add := addSterman
			if a.o.Style == StyleRFC5090 {
				add = addRFC5090
			}
			if err := add(p, c); err != nil {
				return err
			}
			return addVendor(p, a.o.Vendor, vendorMechanism, []byte(aaa.MechanismDigestMD5))
		})
		if err != nil {
			return nil, "", err
		}
		proof := string(reply.Packet.Get(rfc5090.DigestResponseAuth_Type))
		if raw, err := hex.DecodeString(proof); err != nil || len(raw) != 16 {
			return nil, "", fmt.Errorf("%w: server %s: %w", aaa.ErrUnavailable, reply.Server, errNoProof)
		}
		return reply, proof, nil
	}
}

// digestHA1 fetches HA1 and verifies here.
func (a *Authenticator) digestHA1(ctx context.Context, login aaa.Login, c aaa.Digest) (*Reply, string, error) {
	reply, err := a.request(ctx, login, c.Username, func(p *radius.Packet) error {
		addText(p, rfc5090.DigestRealm_Type, c.Realm, 253)
		return addVendor(p, a.o.Vendor, vendorMechanism, []byte("HA1-LOOKUP"))
	})
	if err != nil {
		return nil, "", err
	}
	ha1, err := storedHA1(reply, a.o.Vendor)
	if err != nil {
		return nil, "", fmt.Errorf("%w: server %s: %w", aaa.ErrUnavailable, reply.Server, err)
	}
	proof, ok := c.Verify(ha1)
	if !ok {
		return nil, "", fmt.Errorf("%w: wrong response", aaa.ErrRejected)
	}
	return reply, proof, nil
}

// storedHA1 decrypts DDTB-Stored-HA1, 32 hex digits or 16 octets.
func storedHA1(reply *Reply, vendor uint32) (ha1 aaa.HA1, err error) {
	found := vendorAttributes(reply.Packet, vendor, vendorStoredHA1)
	if len(found) != 1 {
		return ha1, fmt.Errorf("%d DDTB-Stored-HA1 in the Access-Accept, expected one: is the policy of contrib/freeradius installed?", len(found))
	}
	plain, _, err := radius.TunnelPassword(found[0], reply.Request.Secret, reply.Request.Authenticator[:])
	if err != nil {
		return ha1, fmt.Errorf("DDTB-Stored-HA1: %w", err)
	}
	if len(plain) == hex.EncodedLen(len(ha1)) {
		if plain, err = hex.DecodeString(string(plain)); err != nil {
			return ha1, errors.New("DDTB-Stored-HA1: expected hex digits")
		}
	}
	if subtle.ConstantTimeCompare(plain, make([]byte, len(ha1))) == 1 || copy(ha1[:], plain) != len(ha1) || len(plain) != len(ha1) {
		return aaa.HA1{}, errors.New("DDTB-Stored-HA1: expected 16 octets, not all zero")
	}
	return ha1, nil
}

// cram asks for a CRAM-MD5 response (RFC 2195) to be verified by the policy of contrib/freeradius.
func (a *Authenticator) cram(c aaa.Cram) func(context.Context, aaa.Login) (*Reply, string, error) {
	return func(ctx context.Context, login aaa.Login) (*Reply, string, error) {
		reply, err := a.request(ctx, login, c.Username, func(p *radius.Packet) error {
			return errors.Join(
				addVendor(p, a.o.Vendor, vendorMechanism, []byte(aaa.MechanismCramMD5)),
				addVendor(p, a.o.Vendor, vendorCramChallenge, []byte(c.Challenge)),
				addVendor(p, a.o.Vendor, vendorCramResponse, []byte(c.Response)))
		})
		return reply, "", err
	}
}

const (
	digestMethod    = "AUTHENTICATE" // A2 of RFC 2831 section 2.1.2.1
	digestAlgorithm = "MD5-sess"
)

// addSterman adds Digest-Response (206) and Digest-Attributes (207, one sub-attribute each) of draft-sterman-aaa-sip.
func addSterman(p *radius.Packet, c aaa.Digest) error {
	p.Add(attrDigestResponse, radius.Attribute(c.Response))
	for _, sub := range []struct {
		kind  byte
		value string
	}{
		{1, c.Realm}, {2, c.Nonce}, {3, digestMethod}, {4, c.URI}, {5, c.QOP}, {6, digestAlgorithm}, {8, c.CNonce}, {9, c.NC}, {10, c.Username},
	} {
		if err := fits(sub.value, 251); err != nil {
			return err
		}
		p.Add(attrDigestAttributes, append(radius.Attribute{sub.kind, byte(len(sub.value) + 2)}, sub.value...))
	}
	return nil
}

// fits refuses what a client has made longer than RADIUS carries.
func fits(value string, most int) error {
	if len(value) > most {
		return fmt.Errorf("%w: a digest field of %d octets, RADIUS carries %d", aaa.ErrRejected, len(value), most)
	}
	return nil
}

// addRFC5090 adds attributes 103 and following.
func addRFC5090(p *radius.Packet, c aaa.Digest) error {
	for _, a := range []struct {
		kind  radius.Type
		value string
	}{
		{rfc5090.DigestResponse_Type, c.Response}, {rfc5090.DigestRealm_Type, c.Realm}, {rfc5090.DigestNonce_Type, c.Nonce},
		{rfc5090.DigestMethod_Type, digestMethod}, {rfc5090.DigestURI_Type, c.URI}, {rfc5090.DigestQop_Type, c.QOP},
		{rfc5090.DigestAlgorithm_Type, digestAlgorithm}, {rfc5090.DigestCNonce_Type, c.CNonce},
		{rfc5090.DigestNonceCount_Type, c.NC}, {rfc5090.DigestUsername_Type, c.Username},
	} {
		if err := fits(a.value, 253); err != nil {
			return err
		}
		p.Add(a.kind, radius.Attribute(a.value))
	}
	return nil
}
