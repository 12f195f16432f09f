// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ddtb/provision/control"
)

// user shows one account.
func (d *desk) user(t *testing.T, name string) control.User {
	t.Helper()
	var u control.User
	check(t, json.Unmarshal([]byte(d.must(t, "user", "show", name, "--json")), &u))
	return u
}

// TestUserPasswords: a password comes from the terminal, standard input, a file or chance, and is never shown again.
func TestUserPasswords(t *testing.T) {
	d := newDesk(t)
	d.stdin = "from standard input\nsecond line\n"
	if out := d.must(t, "user", "add", "alice", "--password-stdin"); out != "added alice\n" {
		t.Errorf("said %q", out)
	}
	file := filepath.Join(t.TempDir(), "password")
	check(t, os.WriteFile(file, []byte("from a file\n"), 0o600))
	d.must(t, "user", "add", "bob", "--password-file", file)
	d.typed = []string{"typed", "typed"}
	d.must(t, "user", "add", "carol")

	out := d.must(t, "user", "add", "dave", "--generate")
	if !regexp.MustCompile(`^added dave\npassword: [a-zA-Z2-9]{16}\n$`).MatchString(out) {
		t.Errorf("said %q", out)
	}
	var told struct{ User, Done, Password string }
	check(t, json.Unmarshal([]byte(d.must(t, "user", "passwd", "dave", "--generate", "--json")), &told))
	if told.User != "dave" || told.Done != "changed" || len(told.Password) != generatedLength {
		t.Errorf("said %+v", told)
	}

	d.typed = []string{"one", "other"}
	d.wantFails(t, exitFailed, "the two passwords differ", "user", "passwd", "alice")
	d.typed, d.stdin = nil, "\n"
	d.wantFails(t, exitFailed, "the password is empty", "user", "passwd", "alice", "--password-stdin")
	d.stdin = strings.Repeat("x", maxLine)
	d.wantFails(t, exitFailed, "a line of 4096 octets or more", "user", "passwd", "alice", "--password-stdin")
	d.wantFails(t, exitFailed, "no such file", "user", "passwd", "alice", "--password-file", file+"x")

	if list := d.must(t, "user", "list"); strings.Count(list, "\n") != 5 || strings.Contains(list, "typed") {
		t.Errorf("list:\n%s", list)
	}
}

func TestUserAttributes(t *testing.T) {
	d := newDesk(t)
	d.must(t, "user", "add", "alice", "--generate", "--pool", "guests", "--sessions", "3", "--note", "on the hill", "--cram",
		"--endpoint", "2001:db8:f000:1::7", "--prefix", "2001:db8:9::/48", "--expires", "2999-12-31")
	u := d.user(t, "alice")
	if u.Pool != "guests" || u.Sessions != 3 || u.Note != "on the hill" || u.Endpoint.String() != "2001:db8:f000:1::7" ||
		u.Prefix.String() != "2001:db8:9::/48" || strings.Join(u.Mechanisms, " ") != "DIGEST-MD5 CRAM-MD5 PLAIN" || u.Expires.Year() < 2998 {
		t.Errorf("made %+v", u)
	}
	wantParts(t, d.must(t, "user", "show", "alice"), "can log in with  DIGEST-MD5 CRAM-MD5 PLAIN\n", "note             on the hill\n", "sessions         3\n")

	d.must(t, "user", "set", "alice", "--pool", "", "--prefix", "", "--no-digest", "--sessions", "0")
	u = d.user(t, "alice")
	if u.Pool != "" || u.Prefix != nil || u.Sessions != 0 || u.Digest || u.Note != "on the hill" || u.Endpoint == nil {
		t.Errorf("changed to %+v", u)
	}
	d.must(t, "user", "add", "bob", "--generate", "--no-digest", "--no-prefix")
	if u := d.user(t, "bob"); u.Digest || !u.NoPrefix || strings.Join(u.Mechanisms, " ") != "PLAIN" {
		t.Errorf("made %+v", u)
	}
}

func TestUserSwitches(t *testing.T) {
	d := newDesk(t)
	d.must(t, "user", "add", "alice", "--generate")
	d.wantFails(t, exitFailed, "account exists", "user", "add", "alice", "--generate")
	d.session(t, "alice", 1)
	if out := d.must(t, "user", "disable", "alice"); out != "disabled alice\n" {
		t.Errorf("said %q", out)
	}
	wantParts(t, d.must(t, "user", "list"), "alice  disabled  DIGEST-MD5 PLAIN  -")
	if out := d.must(t, "user", "disable", "alice", "--kick"); out != "disabled alice, 1 sessions ended\n" {
		t.Errorf("said %q", out)
	}
	if out := d.must(t, "user", "enable", "alice"); out != "enabled alice\n" || d.user(t, "alice").Disabled {
		t.Errorf("said %q", out)
	}
	if out := d.must(t, "user", "del", "alice", "--json"); out != "{\"done\":\"removed\",\"kicked\":[],\"user\":\"alice\"}\n" {
		t.Errorf("said %q", out)
	}
	for _, verb := range []string{"show", "disable", "enable", "del"} {
		d.wantFails(t, exitFailed, "no such account", "user", verb, "alice")
	}
}

// TestGenerate: all letters of the alphabet occur, and nothing else.
func TestGenerate(t *testing.T) {
	seen := map[rune]bool{}
	for range 500 {
		password, err := generate()
		check(t, err)
		for _, r := range password {
			seen[r] = true
		}
	}
	if len(seen) != len(alphabet) {
		t.Errorf("%d letters occur, want %d", len(seen), len(alphabet))
	}
}
