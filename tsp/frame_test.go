// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, test := range []struct {
		wire string
		want header
		data string
		ok   bool
	}{
		{"\xf0\x00\x00\xf0\x00\x00\x01\xbaVERSION=2.0.2\r\n", header{0xf0, 0x1ba}, "VERSION=2.0.2\r\n", true},
		{"\xff\xff\xff\xff\xff\xff\xff\xff", header{sequenceMask, 0xffffffff}, "", true},
		{"\xf0\x00\x00\xf0\x00\x00\x01", header{}, "", false}, // short
		{"\x60\x00\x00\x00\x00\x00\x00\x00", header{}, "", false},
		{"\xe0\x00\x00\x00\x00\x00\x00\x00", header{}, "", false},
		{"", header{}, "", false},
	} {
		h, data, ok := parseHeader([]byte(test.wire))
		if h != test.want || string(data) != test.data || ok != test.ok {
			t.Errorf("%q: %v %q %v", test.wire, h, data, ok)
		}
		if ok && string(h.append(nil)) != test.wire[:headerLen] {
			t.Errorf("%v becomes %x", h, h.append(nil))
		}
	}
}

func TestOlder(t *testing.T) {
	for _, test := range []struct {
		a, b uint32
		want bool
	}{{0xf0, 0xf1, true}, {0xf1, 0xf0, false}, {0xf0, 0xf0, false}, {sequenceMask, 0, true}, {0, sequenceMask, false},
		{0, 1<<27 - 1, true}, {0, 1<<27 + 1, false}} {
		if got := older(test.a, test.b); got != test.want {
			t.Errorf("older(%x, %x) = %v", test.a, test.b, got)
		}
	}
}

func TestFrame(t *testing.T) {
	const tooLong = "Content-length: 4097\r\n"
	for _, test := range []struct{ wire, body, rest, err string }{
		{"Content-length: 35\r\n<tunnel action=\"accept\"></tunnel>\r\n", "<tunnel action=\"accept\"></tunnel>\r\n", "", ""},
		{"Content-length: 0\r\n", "", "", ""},
		{"\x00Content-length: 1\r\nab", "a", "b", ""},
		{"\r\n \x00content-LENGTH :  3  \nabc", "abc", "", ""},
		{"Content-length: 4\r\nabc", "", "", "shorter"},
		{"Content-length: 4", "", "", "shorter"},
		{"", "", "", "shorter"},
		{strings.Repeat("x", 65), "", "", "no Content-length"},
		{"Content-length 4\r\nabcd", "", "", "no Content-length"},
		{"Content-type: 4\r\nabcd", "", "", "no Content-length"},
		{"Content-length: -1\r\n", "", "", "bad number"},
		{"Content-length: 0x10\r\n", "", "", "bad number"},
		{"Content-length: 99999999999999999999\r\n", "", "", "bad number"},
		{"Content-length: " + strings.Repeat("0", 64) + "\r\n", "", "", "no Content-length"},
		{tooLong, "", "", "at most 4096"},
	} {
		body, rest, err := parseFrame([]byte(test.wire), maxBody)
		if string(body) != test.body || string(rest) != test.rest || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: %q %q %v", test.wire, body, rest, err)
		}
	}
	if got := string(appendFrame([]byte("x"), []byte("200 Success\r\n"))); got != "xContent-length: 13\r\n200 Success\r\n" {
		t.Errorf("%q", got)
	}
}

func TestLines(t *testing.T) {
	for _, test := range []struct {
		stream, line, rest string
		ok                 bool
	}{
		{"VERSION=2.0.2\r\nrest", "VERSION=2.0.2\r", "rest", true},
		{"a\nb", "a", "b", true},
		{"AUTHENTICATE ANONYMOUS\r\b", "AUTHENTICATE ANONYMOUS\r", "", true},
		{"no end", "", "no end", false},
		{"back\bspace", "", "back\bspace", false},
	} {
		line, rest, ok := cutLine([]byte(test.stream))
		if string(line) != test.line || string(rest) != test.rest || ok != test.ok {
			t.Errorf("%q: %q %q %v", test.stream, line, rest, ok)
		}
	}
	for in, want := range map[string]string{"a\r\n": "a", "a\r\n\x00": "a", "a\r\b": "a", "a\n": "a", "a\r": "a", "a": "a", "": "",
		"\x00u\x00p\r\n": "\x00u\x00p", "a\r\n\r\n": "a\r\n"} {
		if got := string(trimEnd([]byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("\xf0\x00\x00\xf0\x00\x00\x01\xbaVERSION=2.0.2\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, data, ok := parseHeader(b)
		if ok && !bytes.Equal(append(h.append(nil), data...), b) {
			t.Fatalf("%x becomes %v", b, h)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("Content-length: 35\r\n<tunnel action=\"accept\"></tunnel>\r\n"))
	f.Add([]byte("\x00content-length:1\nab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, rest, err := parseFrame(b, maxBody)
		if err != nil {
			if errors.Is(err, errShort) && len(b) > maxMessage && len(bytes.TrimLeft(b, "\x00\b\r\n \t")) > maxMessage {
				t.Fatalf("%d octets are not enough", len(b))
			}
			return
		}
		again, rest2, err := parseFrame(append(appendFrame(nil, body), rest...), maxBody)
		if err != nil || !bytes.Equal(again, body) || !bytes.Equal(rest2, rest) {
			t.Fatalf("%q %q: %v", body, rest, err)
		}
	})
}

// FuzzRequestLine takes what comes before a login.
func FuzzRequestLine(f *testing.F) {
	for _, line := range []string{"VERSION=2.0.2\r\n", "VERSION=2.0.0", "AUTHENTICATE PLAIN\r\n\x00", "AUTHENTICATE ANONYMOUS\r\b", "ECHO REQUEST",
		"AUTHENTICATE digest-md5"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if mechanism, ok := parseAuthenticate(line); ok && mechanism != "" {
			if again, ok := parseAuthenticate(fmt.Appendf(nil, "AUTHENTICATE %s\r\n", mechanism)); !ok || again != mechanism {
				t.Fatalf("%q is %q is %q", line, mechanism, again)
			}
		}
		if rest, ok := cutVersion(line); ok {
			if v := knownVersion(rest); v != "" && !bytes.Contains(rest, []byte(v)) {
				t.Fatalf("%q is version %q", line, v)
			}
		}
		if rest, _, ok := cutLine(line); ok && bytes.IndexByte(rest, '\n') >= 0 {
			t.Fatalf("%q is more than a line", rest)
		}
	})
}

func FuzzCapability(f *testing.F) {
	f.Add([]byte("CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=PLAIN AUTH=DIGEST-MD5\r\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if c, ok := parseCapability(line); ok && (len(c.Tunnels) > maxOffered || len(c.Mechanisms) > maxOffered) {
			t.Fatal("more than is remembered")
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte("200 Success\r\n"))
	f.Add([]byte("1302 Unsupported client version\r\n<tunnel action=\"list\" type=\"broker\"><broker><address type=\"ipv4\">1.2.3.4</address></broker></tunnel>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		code, text, _, err := parseStatus(b)
		if err != nil {
			return
		}
		again, text2, rest, err := parseStatus(appendStatus(nil, Code(code), text))
		if err != nil || again != code || text2 != text || len(rest) > 0 {
			t.Fatalf("%d %q becomes %d %q %q: %v", code, text, again, text2, rest, err)
		}
	})
}

// TestVerbs: requests before the login are read leniently.
func TestVerbs(t *testing.T) {
	for line, want := range map[string]string{"VERSION=2.0.2\r\n": "2.0.2", "version=2.0.1": "2.0.1", "Version = 2.0.0 \x00": "2.0.0", "VERSION=2.0.2\r\b": "2.0.2",
		"VERSION=1.0": "", "VERSION=": "", "VERSION=2.0.22": ""} {
		if said, ok := cutVersion([]byte(line)); !ok || knownVersion(said) != want {
			t.Errorf("%q: %v, %q, want %q", line, ok, said, want)
		}
	}
	for _, line := range []string{"", "VERSION", "VERSION 2.0.2", "VERSIONS=2.0.2", " VERSION=2.0.2"} {
		if said, ok := cutVersion([]byte(line)); ok {
			t.Errorf("%q says %q", line, said)
		}
	}
	if mechanism, ok := parseAuthenticate([]byte("authenticate digest-md5\r\n\x00")); !ok || mechanism != "DIGEST-MD5" {
		t.Errorf("%q %v", mechanism, ok)
	}
}
