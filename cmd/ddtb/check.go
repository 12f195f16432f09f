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

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/config"
)

// finding is one thing that was looked at.
type finding struct {
	what   string
	bad    bool   // ddtb would not start, or not work
	detail string // what was found; if bad, and what to do
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
		if f.bad {
			mark = "FAIL "
			bad++
		}
		fmt.Fprintf(out, "%s %s: %s\n", mark, f.what, f.detail)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

// check looks at what the host must have for a completed configuration.
func (h host) check(c config.Config) []finding {
	var all []finding
	add := func(what string, bad bool, format string, args ...any) {
		all = append(all, finding{what, bad, fmt.Sprintf(format, args...)})
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
	if c.Datapath.Driver == "null" {
		return all
	}
	all = append(all, h.checkLinks(c.Datapath)...)
	all = append(all, checkRights()...)
	return append(all, checkForwarding("/proc/sys/net"), checkPins(c.Datapath.PinPath), checkDatapath(c.Datapath))
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
			return finding{what, true, err.Error()}
		}
		if !info.IsDir() {
			return finding{what, true, there + " is no directory"}
		}
		break
	}
	if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
		return finding{what, true, there + ": " + err.Error()}
	}
	if there != path {
		return finding{what, false, path + ", will be made"}
	}
	return finding{what, false, path}
}

// rights are the capabilities that the datapath needs, capabilities(7).
var rights = []struct {
	name   string
	number uint
	reason string
}{
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, "to set up interfaces and routes"},
	{"CAP_NET_RAW", unix.CAP_NET_RAW, "to read fragments of protocol 41"},
	{"CAP_BPF", unix.CAP_BPF, "to load programs"},
	{"CAP_PERFMON", unix.CAP_PERFMON, "to load programs that compare pointers"},
}

// checkRights sees which capabilities the calling process has.
func checkRights() []finding {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return []finding{{"rights", true, err.Error()}}
	}
	var missing []string
	for _, r := range rights {
		if data[r.number/32].Effective&(1<<(r.number%32)) == 0 {
			missing = append(missing, r.name+" ("+r.reason+")")
		}
	}
	if len(missing) > 0 {
		return []finding{{"rights", true, "missing " + strings.Join(missing, ", ") + "; run it as root, or by the unit ddtb.service"}}
	}
	return []finding{{"rights", false, "all that are needed"}}
}

// checkForwarding sees whether the kernel forwards IPv6 at all; sysctls is /proc/sys/net.
func checkForwarding(sysctls string) finding {
	what := "net.ipv6.conf.all.forwarding"
	value, err := os.ReadFile(filepath.Join(sysctls, "ipv6/conf/all/forwarding"))
	switch {
	case err != nil:
		return finding{what, true, err.Error() + "; is IPv6 disabled on this host?"}
	case strings.TrimSpace(string(value)) == "0":
		return finding{what, true, "0; sysctl -w net.ipv6.conf.all.forwarding=1, and a file in /etc/sysctl.d for the next boot"}
	}
	return finding{what, false, strings.TrimSpace(string(value))}
}

// checkPins sees whether the pins can lie where they are to: on a bpf file system, or where the driver mounts one.
func checkPins(path string) finding {
	what := "datapath.pin_path"
	for there := path; ; there = filepath.Dir(there) {
		var s unix.Statfs_t
		if err := unix.Statfs(there, &s); errors.Is(err, os.ErrNotExist) && there != "/" {
			continue
		} else if err != nil {
			return finding{what, true, there + ": " + err.Error()}
		}
		if s.Type != unix.BPF_FS_MAGIC && !strings.HasPrefix(path, "/sys/fs/bpf/") {
			return finding{what, true, path + " is not on a bpf file system; mount one: mount -t bpf bpf " + there}
		}
		return finding{what, false, path}
	}
}

// checkDatapath tries what the driver needs of the kernel before it changes anything.
func checkDatapath(c config.Datapath) finding {
	what := "datapath " + c.Driver
	dp, err := builtIn().datapaths[c.Driver].open(c, zerolog.Nop())
	if err == nil {
		err = dp.Close()
	}
	if err != nil {
		return finding{what, true, err.Error()}
	}
	return finding{what, false, "the kernel has what it needs"}
}
