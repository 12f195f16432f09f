// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/machine"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

const example = "../../../contrib/tspc/tspc.toml"

// TestExample: the example is good as it is; each key in it that is commented out shows its default, and no key is
// missing.
func TestExample(t *testing.T) {
	c, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^#(\[?[a-z_0-9]+(\]| = .*))$`).ReplaceAll(text, []byte("$1"))
	full, err := Parse(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := full.Validate(); err != nil {
		t.Error(err)
	}
	want := Default()
	want.Server, want.User, want.PasswordFile = c.Server, c.User, c.PasswordFile
	want.Router.Enable, want.Router.LAN = true, []string{"eth1"}
	if diff := cmp.Diff(want, full, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("(-default +example):\n%s", diff)
	}
	for _, key := range []string{
		"server", "user", "password", "password_file", "mechanism", "tunnel", "transport", "keepalive", "interface", "mtu",
		"proto41", "default_route", "metric", "run_dir", "log_level", "enable", "prefix_length", "lan", "advertise",
	} {
		if !regexp.MustCompile(`\b` + key + ` = `).Match(text) {
			t.Errorf("%s is not explained", key)
		}
	}
}

func TestParseNamesLineAndKey(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "server = [\"a\"]\nuzer = \"b\"\n", ":2: unknown key uzer"},
		{"unknown key in a part", "[router]\nlans = []\n", ":2: unknown key router.lans"},
		{"wrong type", "\n\nmtu = \"big\"\n", ":3: mtu: "},
		{"duration", "keepalive = \"often\"\n", `"often" is no duration like "30s"`},
		{"not TOML", "server = [\n", ":"},
	} {
		if _, err := Parse([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	path := filepath.Join(t.TempDir(), "x.toml")
	if err := os.WriteFile(path, []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || err.Error() != path+":1: unknown key nonsense" {
		t.Errorf("%v", err)
	}
	if _, err := Load(path + "x"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	const good = "server = [\"a\"]\nuser = \"u\"\n"
	for _, test := range []struct{ text, want string }{
		{good, ""},
		{"user = \"u\"", "server: none given"},
		{"server = [\"a b\"]\n", "expected host or host:port"},
		{"server = [\"a:0\"]\n", "no number from 1 to 65535"},
		{"server = [\"a:x\"]\n", "no number from 1 to 65535"},
		{"server = [\"a:65536\"]\n", "no number from 1 to 65535"},
		{"server = [\":3653\"]\n", "expected host or host:port"},
		{"server = [\"[2001:db8::1]:3653\"]\n", "tunnels to an IPv6 address"},
		{"server = [\"2001:db8::1\"]\n", "tunnels to an IPv6 address"},
		{good + "mechanism = \"gssapi\"", "mechanism: \"gssapi\""},
		{"server = [\"a\"]\nmechanism = \"plain\"", "user: empty"},
		{good + "tunnel = \"v4v6\"", "tunnel: \"v4v6\", expected one of v6anyv4, v6udpv4, v6v4"},
		{good + "transport = \"sctp\"", "transport: "},
		{good + "transport = \"tcp\"\ntunnel = \"v6udpv4\"", "transport: a v6udpv4 tunnel needs udp"},
		{good + "proto41 = \"gre\"", "proto41: "},
		{good + "log_level = \"loud\"", "log_level: "},
		{good + "interface = \"../../etc\"", "interface: "},
		{good + "interface = \"all\"", "interface: "},
		{good + "interface = \"\"", "interface: "},
		{good + "interface = \"abcdefghijklmnop\"", "interface: "},
		{good + "mtu = 1279", "mtu: 1279, expected 1280 to 1480"},
		{good + "mtu = 1500", "mtu: "},
		{good + "mtu = 1480", ""},
		{good + "keepalive = \"0s\"", "keepalive: "},
		{good + "keepalive = \"25h\"", "keepalive: "},
		{good + "default_route = \"192.0.2.0/24\"", "default_route: "},
		{good + "metric = 0", "metric: "},
		{good + "run_dir = \"run\"", "run_dir: "},
		{good + "password = \"p\"\npassword_file = \"/f\"", "password: given together"},
		{good + "[router]\nlan = [\"e\"]", "router: enable is not true"},
		{good + "[router]\nenable = true\nprefix_length = 65", "router.prefix_length: 65"},
		{good + "[router]\nenable = true\nprefix_length = 31", "router.prefix_length: 31"},
		{good + "[router]\nenable = true\nlan = [\"e\", \"e\"]", "router.lan: \"e\""},
		{good + "[router]\nenable = true\nlan = [\"tspc0\"]", "router.lan: \"tspc0\""},
		{good + "[router]\nenable = true\nlan = [\"a/b\"]", "router.lan: "},
		{good + "[router]\nenable = true\nprefix_length = 56\nlan = [\"e\", \"f\"]", ""},
	} {
		c, err := Parse([]byte(test.text))
		if err != nil {
			t.Fatalf("%q: %v", test.text, err)
		}
		err = c.Validate()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q: %v, want %q", test.text, err, test.want)
		}
	}
	c, err := Parse([]byte("mtu = 1\nmetric = 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("all that is wrong is told: %v", err)
	}
}

func TestMeaning(t *testing.T) {
	c := Default()
	c.Server, c.User = []string{"a.example", "192.0.2.1:4000"}, "u"
	servers, err := c.Servers()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]agent.Server{{Host: "a.example", Port: 3653}, {Host: "192.0.2.1", Port: 4000}}, servers); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct {
		user, mechanism string
		want            []sasl.Mechanism
	}{
		{"u", "any", nil},
		{"", "any", []sasl.Mechanism{sasl.Anonymous}},
		{"u", "digest-md5", []sasl.Mechanism{sasl.DigestMD5}},
		{"u", "PLAIN", []sasl.Mechanism{sasl.Plain}},
		{"u", "anonymous", []sasl.Mechanism{sasl.Anonymous}},
	} {
		c.User, c.Mechanism = test.user, test.mechanism
		if got, err := c.Mechanisms(); err != nil || !cmp.Equal(got, test.want) {
			t.Errorf("%q %q: %v, %v", test.user, test.mechanism, got, err)
		}
	}
	for _, test := range []struct{ transport, tunnel, want string }{
		{"auto", "v6anyv4", ""}, {"auto", "v6v4", ""}, {"auto", "v6udpv4", "udp4"}, {"tcp", "v6v4", "tcp4"}, {"udp", "v6v4", "udp4"},
	} {
		c.Transport, c.Tunnel = test.transport, test.tunnel
		if got := c.Network(); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.transport, test.tunnel, got, test.want)
		}
	}
	for word, want := range map[string]machine.Proto41{"auto": machine.Whichever, "sit": machine.Kernel, "raw": machine.Raw} {
		c.Proto41 = word
		if got := c.Encapsulator(); got != want {
			t.Errorf("%s: %v, want %v", word, got, want)
		}
	}
	for word, want := range map[string]netip.Prefix{"none": {}, "::/0": netip.MustParsePrefix("::/0"), "2000::/3": netip.MustParsePrefix("2000::/3")} {
		c.DefaultRoute = word
		if got, err := c.Route(); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", word, got, err, want)
		}
	}
	c.Tunnel, c.Router = "v6v4", Router{Enable: true, PrefixLength: 56}
	want := tsp.Request{Type: tsp.V6V4, Keepalive: 30 * time.Second, Router: true, PrefixLen: 56}
	if diff := cmp.Diff(want, c.Request(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestFindPassword(t *testing.T) {
	folder := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return path
	}
	file("tspc.password", "from systemd\n", 0o440)
	empty := t.TempDir()
	open, closed := file("open.toml", "password = \"p\"", 0o644), file("closed.toml", "password = \"p\"", 0o640)
	for _, test := range []struct {
		name        string
		config      Config
		environment map[string]string
		want, err   string
	}{
		{name: "file", config: Config{PasswordFile: file("a", "se cret \r\nmore", 0o600)}, want: "se cret "},
		{name: "file without line end", config: Config{PasswordFile: file("b", "secret", 0o600)}, want: "secret"},
		{name: "open file", config: Config{PasswordFile: file("c", "secret", 0o604)}, err: "open to everybody (mode 0604): chmod 600"},
		{name: "empty file", config: Config{PasswordFile: file("d", "\nsecret", 0o600)}, err: "expected 1 to 1024"},
		{name: "endless file", config: Config{PasswordFile: file("e", strings.Repeat("x", 1025), 0o600)}, err: "expected 1 to 1024"},
		{name: "missing file", config: Config{PasswordFile: folder + "/none"}, err: "no such file"},
		{name: "file before environment", config: Config{PasswordFile: folder + "/b"}, environment: map[string]string{"TSPC_PASSWORD": "x"}, want: "secret"},
		{name: "configuration", config: Config{Password: "p", file: closed}, want: "p"},
		{name: "open configuration", config: Config{Password: "p", file: open}, err: "open.toml holds a password and is open to everybody"},
		{name: "credential", environment: map[string]string{"CREDENTIALS_DIRECTORY": folder, "TSPC_PASSWORD": "x"}, want: "from systemd"},
		{name: "other credentials", environment: map[string]string{"CREDENTIALS_DIRECTORY": empty, "TSPC_PASSWORD": "x"}, want: "x"},
		{name: "environment", environment: map[string]string{"TSPC_PASSWORD": "x"}, want: "x"},
		{name: "nowhere", err: "no password for user u: expected"},
		{name: "anonymous", config: Config{Mechanism: "anonymous", Password: "p"}},
	} {
		c := test.config
		c.User = "u"
		if c.Mechanism == "" {
			c.Mechanism = Any
		}
		got, err := c.FindPassword(func(name string) string { return test.environment[name] })
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.name, err, test.err)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("%s: the error tells the password", test.name)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}
