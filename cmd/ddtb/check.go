// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/config"
)

// finding is one thing that was looked at.
type finding struct {
	what   string
	bad    bool   // ddtb would not start, or not work
	detail string // what was found; if bad, and what to do
	lacks  bool   // it is not there, which is no harm
}

// checkCommand tells whether a configuration is right and this host has what it needs.
func checkCommand(p program, o *options) *cobra.Command {
	var user string
	c := &cobra.Command{
		Use:   "check",
		Short: "Tell what is wrong with a configuration, and what this host lacks for it",
		Long: `Read a configuration and tell everything that is wrong with it, with line and key; then look at this host: rights, interfaces,
addresses, kernel features, directories. Nothing is changed, and a running ddtb is not disturbed.

With --auth a login is tried, too: at each backend of aaa.backends that is not this server's own, by each mechanism that it
verifies, as a client that knows the password would. The password is asked for, or read from standard input.

A line begins with ok, with FAIL and then says what to do, or with no where something is missing that is only nice to have.

Exit status: 0 all is well; 1 the host lacks something; 78 the configuration is wrong.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := load(o.file, p.host)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "ok    %s: every key can be read\n", o.file)
			for _, pool := range conf.Pools {
				fmt.Fprintf(out, "ok    pool %s: %s\n", pool.Name, describePool(pool))
			}
			findings := p.host.check(conf)
			if conf.Redis.Used() {
				findings = append(findings, checkRedis(c.Context(), conf))
			}
			if user != "" {
				password, err := askPassword(c.InOrStdin(), c.ErrOrStderr(), user)
				if err != nil {
					return err
				}
				logins, err := checkLogin(c.Context(), conf, user, password)
				if err != nil {
					return err
				}
				findings = append(findings, logins...)
			}
			return report(out, findings)
		},
	}
	c.Flags().StringVar(&user, "auth", "", "try to log in as `USER`")
	return c
}

// describePool says what a pool comes to.
func describePool(p config.Pool) string {
	text := fmt.Sprintf("%d subscribers from %s", p.Size-1, p.Endpoints)
	if p.Prefixes.IsValid() {
		return text + fmt.Sprintf(", each with a /%d from %s", p.PrefixLength, p.Prefixes)
	}
	return text + ", without prefixes"
}

// report prints findings and gives an error if one is bad.
func report(out io.Writer, findings []finding) error {
	bad := 0
	for _, f := range findings {
		mark := "ok   "
		switch {
		case f.bad:
			mark = "FAIL "
			bad++
		case f.lacks:
			mark = "no   "
		}
		fmt.Fprintf(out, "%s %s\n", mark, visible(f.what+": "+f.detail))
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

// visible is a text without what a terminal would obey, since servers choose parts of it. A second line stands under the first, so
// that none can be taken for a finding.
func visible(text string) string {
	text = strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, text)
	return strings.ReplaceAll(text, "\n", "\n      ")
}

// check looks at what the host must have for a completed configuration.
func (h host) check(c config.Config) []finding {
	var all []finding
	add := func(what string, bad bool, format string, args ...any) {
		all = append(all, finding{what: what, bad: bad, detail: fmt.Sprintf(format, args...)})
	}
	for _, addr := range c.Server.Listen {
		owned, err := h.owns(addr)
		switch {
		case err != nil:
			add("address "+addr.String(), true, "%v", err)
		case !owned:
			add("address "+addr.String(), true, "not this host's; see `ip address`, then server.listen")
		default:
			add("address "+addr.String(), false, "this host's own, port %d", c.Server.Port)
		}
	}
	if !slices.ContainsFunc(c.Server.Listen, netip.Addr.Is4) {
		add("server.listen", true, "no IPv4 address: tunnels run over IPv4")
	}
	all = append(all, checkDirectory("server.state", c.Server.State), checkDirectory("control.socket", filepath.Dir(c.Control.Socket)))
	if c.Control.Group != "" {
		if gid, err := groupID(c.Control.Group); err != nil {
			add("control.group", true, "%v: groupadd --system %s", err, c.Control.Group)
		} else {
			add("control.group", false, "%s is group %d", c.Control.Group, gid)
		}
	}
	all = append(all, checkSecrets(c)...)
	if c.Datapath.Driver == "null" {
		return all
	}
	all = append(all, h.checkLinks(c.Datapath)...)
	all = append(all, checkRights(c.Datapath.Driver != "utun")...)
	return append(all, builtIn().datapaths[c.Datapath.Driver].probe(datapathConfig(c))...)
}

func (h host) checkLinks(c config.Datapath) []finding {
	var all []finding
	for _, link := range append(slices.Clone(c.Uplinks), c.Cores...) {
		if slices.ContainsFunc(all, func(f finding) bool { return f.what == "interface "+link }) {
			continue
		}
		f := finding{what: "interface " + link, detail: "there and up"}
		if _, up, err := h.linkExists(link); err != nil {
			f.bad, f.detail = true, err.Error()+"; see `ip link`, then datapath.uplinks and datapath.cores"
		} else if !up {
			f.bad, f.detail = true, "down; ip link set "+link+" up"
		}
		all = append(all, f)
	}
	return all
}

// checkDirectory sees whether a directory can be written to, or made.
func checkDirectory(what, path string) finding {
	there := path
	for {
		info, err := os.Stat(there)
		if errors.Is(err, os.ErrNotExist) && there != "/" {
			there = filepath.Dir(there)
			continue
		}
		if err != nil {
			return finding{what: what, bad: true, detail: err.Error()}
		}
		if !info.IsDir() {
			return finding{what: what, bad: true, detail: there + " is no directory"}
		}
		break
	}
	if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
		return finding{what: what, bad: true, detail: there + ": " + err.Error()}
	}
	if there != path {
		return finding{what: what, bad: false, detail: path + ", will be made"}
	}
	return finding{what: what, bad: false, detail: path}
}

// rights are the capabilities that the datapath needs, capabilities(7); some are for eBPF alone.
var rights = []struct {
	name   string
	number uint
	reason string
	eBPF   bool
}{
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, "to set up interfaces and routes", false},
	{"CAP_NET_RAW", unix.CAP_NET_RAW, "to read fragments of protocol 41", true},
	{"CAP_BPF", unix.CAP_BPF, "to load programs", true},
	{"CAP_PERFMON", unix.CAP_PERFMON, "to load programs that compare pointers", true},
}

// checkRights sees which capabilities the calling process has, for a datapath in eBPF or another one.
func checkRights(eBPF bool) []finding {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return []finding{{what: "rights", bad: true, detail: err.Error()}}
	}
	var missing []string
	for _, r := range rights {
		if (eBPF || !r.eBPF) && data[r.number/32].Effective&(1<<(r.number%32)) == 0 {
			missing = append(missing, r.name+" ("+r.reason+")")
		}
	}
	if len(missing) > 0 {
		return []finding{{what: "rights", bad: true, detail: "missing " + strings.Join(missing, ", ") + "; run it as root, or by the unit ddtb.service"}}
	}
	return []finding{{what: "rights", bad: false, detail: "all that are needed"}}
}
