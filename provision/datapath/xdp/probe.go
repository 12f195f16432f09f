// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Check is one thing the datapath needs or likes to have of the kernel.
type Check struct {
	Name     string // "native XDP on eth0"
	OK       bool
	Required bool   // without it Configure fails
	Detail   string // what was found, or what to do about it
}

// Probe tells what the kernel can do for a Config, by trying. It changes nothing. It needs the rights that Configure needs.
func Probe(config datapath.Config) []Check {
	p := &prober{}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		p.note("Linux", true, true, unix.ByteSliceToString(uts.Release[:]))
	}
	_, err := validate(config, 0)
	p.need("configuration", err, "valid")
	p.need("eBPF programs", tryPrograms(), "the kernel takes them")
	_, err = os.Stat("/dev/net/tun")
	p.need("TUN devices", err, "/dev/net/tun is there")
	p.note("tcx links", haveTCX(), false, "otherwise filters on clsact qdiscs are used (Linux 6.6)")
	p.note("short decapsulation in tc", haveShrinkL3(), false, "otherwise it takes one step more (Linux 6.3)")
	p.pins(config.PinPath)
	h, err := newHost()
	if err != nil {
		p.need("netlink", err, "")
		return p.checks
	}
	defer func() { _ = h.Close() }()
	p.need("IPv6 forwarding", h.Forwards(), "on")
	p.interfaces(h, config)
	return p.checks
}

// prober collects checks.
type prober struct{ checks []Check }

func (p *prober) note(name string, ok, required bool, detail string) {
	p.checks = append(p.checks, Check{Name: name, OK: ok, Required: required, Detail: detail})
}

// need notes something that is required: fine without an error.
func (p *prober) need(name string, err error, fine string) {
	if err != nil {
		fine = err.Error()
	}
	p.note(name, err == nil, true, fine)
}

func (p *prober) pins(path string) {
	if strings.HasPrefix(path, bpffs+"/") {
		on, err := onBPFFS(bpffs)
		detail := "mounted on " + bpffs
		if !on {
			detail = "will be mounted on " + bpffs
		}
		p.need("eBPF file system", err, detail)
		return
	}
	parent := path
	for {
		on, err := onBPFFS(parent)
		if errors.Is(err, unix.ENOENT) && parent != "/" {
			parent = parent[:max(strings.LastIndexByte(parent, '/'), 1)]
			continue
		}
		if err == nil && !on {
			err = fmt.Errorf("%s is on another file system", parent)
		}
		p.need("eBPF file system", err, "mounted on or above "+parent)
		return
	}
}

func (p *prober) interfaces(h *host, config datapath.Config) {
	all, err := h.findInterfaces(config)
	p.need("interfaces", err, fmt.Sprintf("%d found", len(all)))
	if err == nil {
		p.need("MTU", checkMTU(config, all), "the largest outer packet fits the uplinks")
	}
	for _, i := range all {
		if !i.known {
			p.note("XDP features of "+i.name, false, false, "this kernel cannot be asked (Linux 6.3); tc is used unless the mode says otherwise")
			continue
		}
		native := i.features&actBasic != 0 && i.features&actRedirect != 0
		p.note("native XDP on "+i.name, native, false, "mode auto uses "+string(i.wishes(Auto)[0]))
		p.note("frames from XDP into "+i.name, i.features&actXmit != 0, false,
			"otherwise packets that leave by it go through tc; some drivers take them only while they run a program themselves")
	}
}

// tryPrograms loads what Configure would load, with maps of their own.
func tryPrograms() error {
	for _, object := range []func() (*ebpf.CollectionSpec, error){loadHookXDP, loadHookTC} {
		spec, err := object()
		if err != nil {
			return err
		}
		loaded, err := ebpf.NewCollection(spec)
		if err != nil {
			return fmt.Errorf("%w: %w", datapath.ErrNotSupported, err)
		}
		loaded.Close()
	}
	return nil
}
