// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath/space"
)

// place is a kind of hook.
type place string

// The places, as they stand in pins.
const (
	xdpNative  place = "xdp-native"
	xdpGeneric place = "xdp-generic"
	tcIngress  place = "tc-ingress"
	tcEgress   place = "tc-egress"
)

// hook is where a program is attached.
type hook struct {
	place place
	index int // of the interface
}

// pin is the hook's file name: interfaces by number, since eBPF file systems allow no dots.
func (h hook) pin() string { return string(h.place) + "-" + strconv.Itoa(h.index) }

// parseHook reads what pin wrote.
func parseHook(name string) (hook, bool) {
	for _, p := range []place{xdpNative, xdpGeneric, tcIngress, tcEgress} {
		if rest, ok := strings.CutPrefix(name, string(p)+"-"); ok {
			index, err := strconv.Atoi(rest)
			return hook{p, index}, err == nil
		}
	}
	return hook{}, false
}

// attacher attaches programs and keeps the links pinned.
type attacher struct {
	host *host
	root string // pin path; pins are in root/version
	tcx  bool   // the kernel has tcx links (Linux 6.6); else cls_bpf filters on a clsact qdisc
}

// attach has a program run at a hook, in the place of ours that ran there before: whatever arrives meets one or the other.
func (a *attacher) attach(h hook, p *ebpf.Program) error {
	if !a.tcx && (h.place == tcIngress || h.place == tcEgress) {
		return a.setFilter(h, p)
	}
	if old := a.find(h); old != nil {
		defer old.Close()
		if err := old.Update(p); err != nil {
			return fmt.Errorf("%s: replace program: %w", h.pin(), err)
		}
		return old.Pin(filepath.Join(a.root, version, h.pin()))
	}
	var made link.Link
	err := a.host.Do(func() (err error) { made, err = create(h, p); return err })
	if err != nil {
		return fmt.Errorf("%s: %w", h.pin(), err)
	}
	defer made.Close()
	if err := made.Pin(filepath.Join(a.root, version, h.pin())); err != nil {
		return fmt.Errorf("%s: pin: %w", h.pin(), err)
	}
	return nil
}

func create(h hook, p *ebpf.Program) (link.Link, error) {
	switch h.place {
	case xdpNative:
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: h.index, Flags: link.XDPDriverMode})
	case xdpGeneric:
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: h.index, Flags: link.XDPGenericMode})
	case tcIngress:
		return link.AttachTCX(link.TCXOptions{Program: p, Interface: h.index, Attach: ebpf.AttachTCXIngress})
	case tcEgress:
		return link.AttachTCX(link.TCXOptions{Program: p, Interface: h.index, Attach: ebpf.AttachTCXEgress})
	}
	panic("no such place: " + h.place)
}

// find opens our link at a hook, of whatever version of this program; nil if there is none. A pin whose interface is gone
// is removed.
func (a *attacher) find(h hook) link.Link {
	paths, _ := filepath.Glob(filepath.Join(a.root, "v[0-9]*", h.pin()))
	for _, path := range paths {
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			continue
		}
		if attachedTo(l) == h.index {
			return l
		}
		_ = l.Unpin()
		_ = l.Close()
	}
	return nil
}

func attachedTo(l link.Link) int {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	if x := info.XDP(); x != nil {
		return int(x.Ifindex)
	}
	if x := info.TCX(); x != nil {
		return int(x.Ifindex)
	}
	return 0
}

// prune detaches all programs of ours but those at the given hooks, and gives up the pins of other versions.
func (a *attacher) prune(keep []hook) error {
	paths, _ := filepath.Glob(filepath.Join(a.root, "v[0-9]*", "*"))
	var errs []error
	for _, path := range paths {
		h, ok := parseHook(filepath.Base(path))
		if ok && !slices.Contains(keep, h) {
			errs = append(errs, detach(path))
		}
	}
	for _, dir := range a.otherVersions() {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(append(errs, a.pruneFilters(keep))...)
}

// otherVersions are the directories that other versions of this program left.
func (a *attacher) otherVersions() []string {
	dirs, _ := filepath.Glob(filepath.Join(a.root, "v[0-9]*"))
	return slices.DeleteFunc(dirs, func(dir string) bool { return filepath.Base(dir) == version })
}

// remove takes our program off a hook, if one is there.
func (a *attacher) remove(h hook) error {
	paths, _ := filepath.Glob(filepath.Join(a.root, "v[0-9]*", h.pin()))
	var errs []error
	for _, path := range paths {
		errs = append(errs, detach(path))
	}
	return errors.Join(errs...)
}

// detach takes a program off at once; without the call it would go when the kernel next gets round to it.
func detach(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return fmt.Errorf("detach %s: %w", path, err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("detach %s: %w", path, err)
	}
	return l.Unpin()
}

// Our filters on clsact qdiscs are known by these.
const (
	filterName   = "ddtb"
	filterPref   = 36
	filterHandle = 53
)

func parentOf(p place) uint32 {
	if p == tcEgress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

func (a *attacher) setFilter(h hook, p *ebpf.Program) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: h.index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := a.host.Netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: clsact qdisc: %w", h.pin(), err)
	}
	err := a.host.Netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: h.index, Parent: parentOf(h.place), Handle: filterHandle, Protocol: unix.ETH_P_ALL, Priority: filterPref,
		},
		Fd: p.FD(), Name: filterName, DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("%s: filter: %w", h.pin(), err)
	}
	return nil
}

// pruneFilters removes our filters from where they are not to be, in the whole namespace.
func (a *attacher) pruneFilters(keep []hook) error {
	links, err := space.Whole(a.host.Netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		for _, p := range []place{tcIngress, tcEgress} {
			if !a.tcx && slices.Contains(keep, hook{p, l.Attrs().Index}) {
				continue
			}
			errs = append(errs, a.delFilter(l, p))
		}
	}
	return errors.Join(errs...)
}

func (a *attacher) delFilter(l netlink.Link, p place) error {
	filters, err := space.Whole(func() ([]netlink.Filter, error) { return a.host.Netlink.FilterList(l, parentOf(p)) })
	if err != nil {
		return nil //nolint:nilerr // no clsact qdisc, no filter
	}
	for _, f := range filters {
		ours, ok := f.(*netlink.BpfFilter)
		if !ok || ours.Name != filterName || ours.Priority != filterPref {
			continue
		}
		if err := a.host.Netlink.FilterDel(f); err != nil {
			return fmt.Errorf("delete filter of %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}
