// SPDX-License-Identifier: GPL-2.0-or-later

package ldap_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/aaa/ldap"
	"ddtb/aaa/ldap/ldaptest"
)

const realm = "tunnels.example"

// entries are subscribers of every kind. Carol has HA1 but no readable password, dave a hashed one, the twins are one too many.
func entries() string {
	ha1 := aaa.NewHA1("carol", realm, "carolpw")
	return strings.ReplaceAll(`dn: ou=people,dc=isp,dc=example
objectClass: organizationalUnit
ou: people

dn: cn=gold,dc=isp,dc=example
objectClass: radiusObjectProfile
objectClass: radiusprofile
cn: gold
radiusReplyAttribute: Filter-Id := "gold"
radiusReplyAttribute: Session-Timeout := 86400
radiusReplyAttribute: Delegated-IPv6-Prefix := "2001:db8:ffff::/56"

dn: uid=alice,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
objectClass: radiusprofile
objectClass: ddtbSubscriber
uid: alice
dialupAccess: yes
cn: Alice
sn: Liddell
mail: alice@isp.example
userPassword: wonderland
radiusProfileDN: cn=gold,dc=isp,dc=example
radiusIdleTimeout: 600
radiusClass: blue
radiusReplyAttribute: Framed-IPv6-Route += "2001:db8:abcd::/48 :: 1"
radiusReplyAttribute: Delegated-IPv6-Prefix += "2001:db8:fe::/56"
radiusDelegatedIPv6Prefix: 2001:db8:1000::/56
radiusDelegatedIPv6Prefix: 2001:db8:100::1/56
radiusFramedIPv6Route: 2001:db8:abce::/48 ::
radiusFramedIPv6Route: 2001:db8:abcf::5/128
radiusFramedIPv6Pool: residential

dn: uid=carol,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
objectClass: ddtbSubscriber
uid: carol
cn: Carol
sn: C
userPassword: {SSHA}v0i+pTf+gIIM3fSFj8CLzFm/+f15WeXp
ddtbDigestHA1: tunnels.example @

dn: uid=blocked,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
objectClass: radiusprofile
uid: blocked
cn: Blocked
sn: B
userPassword: blocked
dialupAccess: false

dn: uid=we*ird\2C(user)\5C,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
uid: we*ird,(user)\
cn: Weird
sn: W
userPassword: weird

dn: cn=twin,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
uid: twin
cn: twin
sn: T
userPassword: twin

dn: cn=twin2,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
uid: twin
cn: twin2
sn: T
userPassword: twin

dn: uid=odd,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
objectClass: radiusprofile
uid: odd
cn: Odd
sn: O
userPassword: odd
radiusReplyAttribute: Delegated-IPv6-Prefix := "2001:db8::/129"

dn: uid=jürgen,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
uid: jürgen
cn: J
sn: J
userPassword: jürgenpw

dn: cn=tunnel-users,dc=isp,dc=example
objectClass: groupOfNames
cn: tunnel-users
member: uid=alice,ou=people,dc=isp,dc=example
`, "example @", "example "+hex.EncodeToString(ha1[:]))
}

func options(s *ldaptest.Server) ldap.Options {
	return ldap.Options{
		URLs: []string{s.URL}, BindDN: ldaptest.ReaderDN, Password: ldaptest.ServicePass, Base: "ou=people," + ldaptest.Suffix,
	}
}

func open(t *testing.T, o ldap.Options) *ldap.Authenticator {
	t.Helper()
	a, err := ldap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func try(a *ldap.Authenticator, m aaa.Mechanism, user, password string) (aaa.Subscriber, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return a.Authenticate(ctx, aaatest.Login(m, user, realm, password))
}

type login struct {
	mechanism      aaa.Mechanism
	user, password string
	want           error
}

func check(t *testing.T, a *ldap.Authenticator, logins []login) {
	t.Helper()
	for _, l := range logins {
		if _, err := try(a, l.mechanism, l.user, l.password); !errors.Is(err, l.want) || (err == nil) != (l.want == nil) {
			t.Errorf("%s %q %q: got %v, want %v", l.mechanism, l.user, l.password, err, l.want)
		}
	}
}

func TestLogin(t *testing.T) {
	s := ldaptest.Start(t, entries())
	plain := []login{
		{aaa.MechanismPlain, "alice", "wonderland", nil},
		{aaa.MechanismPlain, "alice", "wrong", aaa.ErrRejected},
		{aaa.MechanismPlain, "alice", "", aaa.ErrRejected},
		{aaa.MechanismPlain, "", "x", aaa.ErrUnknown},
		{aaa.MechanismPlain, "nobody", "x", aaa.ErrUnknown},
		{aaa.MechanismPlain, `we*ird,(user)\`, "weird", nil},
		{aaa.MechanismPlain, "we*", "weird", aaa.ErrUnknown},
		{aaa.MechanismPlain, "*", "wonderland", aaa.ErrUnknown},
		{aaa.MechanismPlain, "alice)(uid=*", "wonderland", aaa.ErrUnknown},
		{aaa.MechanismPlain, "twin", "twin", aaa.ErrRejected},
		{aaa.MechanismPlain, "odd", "odd", aaa.ErrUnavailable},
	}
	t.Run("plain", func(t *testing.T) { check(t, open(t, options(s)), plain) })
	t.Run("ldaps", func(t *testing.T) {
		o := options(s)
		o.URLs, o.TLS = []string{s.SecureURL}, &tls.Config{RootCAs: s.Roots}
		check(t, open(t, o), plain)
	})
	t.Run("StartTLS", func(t *testing.T) {
		o := options(s)
		o.StartTLS, o.TLS = true, &tls.Config{RootCAs: s.Roots}
		check(t, open(t, o), plain)
	})
	t.Run("untrusted certificate", func(t *testing.T) {
		o := options(s)
		o.StartTLS, o.TLS = true, &tls.Config{RootCAs: x509.NewCertPool()}
		_, err := try(open(t, o), aaa.MechanismPlain, "alice", "wonderland")
		if !errors.Is(err, aaa.ErrUnavailable) || !strings.Contains(err.Error(), "ca_file has to hold") {
			t.Errorf("got %v, want what ca_file is for", err)
		}
	})
	t.Run("another name", func(t *testing.T) {
		o := options(s)
		o.URLs, o.TLS = []string{s.SecureURL}, &tls.Config{RootCAs: s.Roots, ServerName: "other.example"}
		check(t, open(t, o), []login{{aaa.MechanismPlain, "alice", "wonderland", aaa.ErrUnavailable}})
		o.URLs, o.StartTLS = []string{s.URL}, true
		check(t, open(t, o), []login{{aaa.MechanismPlain, "alice", "wonderland", aaa.ErrUnavailable}})
	})
	t.Run("secrets", func(t *testing.T) {
		o := options(s)
		o.BindDN, o.ReadSecrets = ldaptest.DigestDN, true
		check(t, open(t, o), []login{
			{aaa.MechanismDigestMD5, "alice", "wonderland", nil},
			{aaa.MechanismDigestMD5, "alice", "wrong", aaa.ErrRejected},
			{aaa.MechanismDigestMD5, "carol", "carolpw", nil},
			{aaa.MechanismDigestMD5, "carol", "wrong", aaa.ErrRejected},
			{aaa.MechanismCramMD5, "alice", "wonderland", nil},
			{aaa.MechanismCramMD5, "alice", "wrong", aaa.ErrRejected},
			{aaa.MechanismCramMD5, "carol", "carolpw", aaa.ErrRejected},
			{aaa.MechanismPlain, "alice", "wonderland", nil},
		})
	})
	t.Run("enabled", func(t *testing.T) {
		o := options(s)
		o.Map.Enabled = []string{"dialupAccess"}
		check(t, open(t, o), []login{
			{aaa.MechanismPlain, "alice", "wonderland", nil},
			{aaa.MechanismPlain, "blocked", "blocked", aaa.ErrRejected},
			{aaa.MechanismPlain, "twin", "twin", aaa.ErrRejected},
		})
	})
	for name, filter := range map[string]string{"memberOf": "", "group search": "(member={dn})"} {
		t.Run(name, func(t *testing.T) {
			o := options(s)
			o.GroupDN, o.GroupFilter = "cn=Tunnel-Users, dc=isp,dc=example", filter
			check(t, open(t, o), []login{
				{aaa.MechanismPlain, "alice", "wonderland", nil},
				{aaa.MechanismPlain, "blocked", "blocked", aaa.ErrRejected},
			})
		})
	}
}

// TestLatin1: a client that announces no charset speaks ISO 8859-1 (RFC 2831 section 2.1.1), or UTF-8 all the same. It is found in the
// directory, which speaks UTF-8.
func TestLatin1(t *testing.T) {
	o := options(ldaptest.Start(t, entries()))
	o.BindDN, o.ReadSecrets = ldaptest.DigestDN, true
	a := open(t, o)
	for _, name := range []string{"j\xfcrgen", "jürgen"} {
		digest := aaatest.Digest("jürgen", realm, "jürgenpw") // hashed as ISO 8859-1
		digest.Username, digest.UTF8 = name, false
		if got, err := a.Authenticate(t.Context(), aaa.Login{Credential: digest}); err != nil || got.Name != "jürgen" {
			t.Errorf("%q: %q, %v", name, got.Name, err)
		}
	}
}

func TestSubscriber(t *testing.T) {
	s := ldaptest.Start(t, entries())
	o := options(s)
	o.Filter = "(|(uid={user})(mail={user}))"
	got, err := try(open(t, o), aaa.MechanismPlain, "ALICE@isp.example", "wonderland")
	if err != nil {
		t.Fatal(err)
	}
	want := aaa.Subscriber{
		Name: "alice", Backend: "ldap", Authentic: aaa.AuthenticRemote, Pool: "residential",
		Prefix: netip.MustParsePrefix("2001:db8:100::/56"), SessionTimeout: 24 * time.Hour, IdleTimeout: 10 * time.Minute,
		Class: [][]byte{[]byte("blue")}, Filter: "gold",
		Routes: []aaa.Route{
			{Prefix: netip.MustParsePrefix("2001:db8:abcd::/48"), Metric: 1},
			{Prefix: netip.MustParsePrefix("2001:db8:fe::/56"), Delegated: true}, {Prefix: netip.MustParsePrefix("2001:db8:1000::/56"), Delegated: true},
			{Prefix: netip.MustParsePrefix("2001:db8:abce::/48")}, {Prefix: netip.MustParsePrefix("2001:db8:abcf::5/128")},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

func TestFailover(t *testing.T) {
	first, second := ldaptest.Start(t, entries()), ldaptest.Start(t, entries())
	o := options(first)
	o.URLs, o.Timeout = []string{first.URL, second.URL}, time.Second
	a := open(t, o)
	good := []login{{aaa.MechanismPlain, "alice", "wonderland", nil}, {aaa.MechanismPlain, "alice", "wrong", aaa.ErrRejected}}
	check(t, a, good)
	first.Pause() // connections stay open, nothing answers
	check(t, a, good)
	first.Resume()
	first.Stop()
	check(t, a, good)
	second.Stop()
	check(t, a, []login{{aaa.MechanismPlain, "alice", "wonderland", aaa.ErrUnavailable}})
	first.Run()
	check(t, a, good)
}

// TestRestart closes connections that lie idle: the next login does not see it.
func TestRestart(t *testing.T) {
	s := ldaptest.Start(t, entries())
	a := open(t, options(s))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { check(t, a, []login{{aaa.MechanismPlain, "alice", "wonderland", nil}}) })
	}
	wg.Wait()
	s.Stop()
	s.Run()
	check(t, a, []login{{aaa.MechanismPlain, "alice", "wonderland", nil}, {aaa.MechanismPlain, "alice", "wrong", aaa.ErrRejected}})
}

func TestServiceAccount(t *testing.T) {
	s := ldaptest.Start(t, entries())
	o := options(s)
	o.Password = "wrong"
	_, err := try(open(t, o), aaa.MechanismPlain, "alice", "wonderland")
	if !errors.Is(err, aaa.ErrUnavailable) || !strings.Contains(err.Error(), ldaptest.ReaderDN) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("got %v: a refused service account is no refusal of the subscriber", err)
	}
}

// TestNoBase: a base that is not there is a mistake of the configuration, not a subscriber whom nobody knows.
func TestNoBase(t *testing.T) {
	s := ldaptest.Start(t, entries())
	o := options(s)
	o.Base = "ou=nowhere," + ldaptest.Suffix
	_, err := try(open(t, o), aaa.MechanismPlain, "alice", "wonderland")
	if !errors.Is(err, aaa.ErrUnavailable) || !strings.Contains(err.Error(), o.Base) {
		t.Errorf("got %v, want the base named", err)
	}
}

// TestNoGroup: a group that cannot be found refuses nobody as if he were no member of it.
func TestNoGroup(t *testing.T) {
	o := options(ldaptest.Start(t, entries()))
	o.GroupDN, o.GroupFilter = "cn=nobody,"+ldaptest.Suffix, "(member={dn})"
	_, err := try(open(t, o), aaa.MechanismPlain, "alice", "wonderland")
	if !errors.Is(err, aaa.ErrUnavailable) || !strings.Contains(err.Error(), o.GroupDN) {
		t.Errorf("got %v, want the group named", err)
	}
}

// TestPasswordPolicy: a directory that says why it refuses a right password is heard.
func TestPasswordPolicy(t *testing.T) {
	s := ldaptest.Start(t, entries()+`
dn: cn=expires,dc=isp,dc=example
objectClass: device
objectClass: pwdPolicy
cn: expires
pwdAttribute: userPassword
pwdMaxAge: 1

dn: uid=late,ou=people,dc=isp,dc=example
objectClass: inetOrgPerson
uid: late
cn: Late
sn: L
userPassword: latepw
pwdPolicySubentry: cn=expires,dc=isp,dc=example
`)
	a := open(t, options(s))
	var err error
	for start := time.Now(); time.Since(start) < 10*time.Second; { // it expires within two seconds
		if _, err = try(a, aaa.MechanismPlain, "late", "latepw"); err != nil {
			break
		}
	}
	if !errors.Is(err, aaa.ErrRejected) || !strings.Contains(err.Error(), "Password expired") {
		t.Errorf("got %v", err)
	}
	if _, err := try(a, aaa.MechanismPlain, "late", "wrong"); err == nil || strings.Contains(err.Error(), "expired") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestValidate(t *testing.T) {
	good := ldap.Options{URLs: []string{"ldap://127.0.0.1"}, Base: "dc=isp,dc=example"}
	tests := []struct {
		want   string
		change func(*ldap.Options)
	}{
		{"", func(*ldap.Options) {}},
		{"urls", func(o *ldap.Options) { o.URLs = nil }},
		{"urls", func(o *ldap.Options) { o.URLs = []string{"http://127.0.0.1"} }},
		{"start_tls", func(o *ldap.Options) { o.URLs, o.StartTLS = []string{"ldaps://127.0.0.1"}, true }},
		{"base", func(o *ldap.Options) { o.Base = "isp" }},
		{"filter", func(o *ldap.Options) { o.Filter = "(uid=x)" }},
		{"filter", func(o *ldap.Options) { o.Filter = "(uid={user}" }},
		{"group_filter", func(o *ldap.Options) { o.GroupFilter = "member" }},
		{"scope", func(o *ldap.Options) { o.Scope = "base" }},
		{"password", func(o *ldap.Options) { o.BindDN = "cn=x" }},
		{"binders", func(o *ldap.Options) { o.Binders = -1 }},
	}
	for _, tt := range tests {
		o := good
		tt.change(&o)
		err := o.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
