// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/rs/zerolog"
)

// loader loads programs and attaches them.
type loader struct {
	constants constants
	maps      map[string]*ebpf.Map
	attach    *attacher
	log       zerolog.Logger
	hooks     []hook // done
}

// iface puts the programs on an uplink or core interface, in the best mode that works: tc first, so that there is no
// moment without, then XDP before it.
func (l *loader) iface(i *iface, port uint32, mode Mode) error {
	var errs []error
	for _, wish := range i.wishes(mode) {
		// Behind XDP the core side needs no second program: what XDP leaves there goes through the device.
		if wish == TC || i.decap {
			r := role{port: port, canSend: portEthernet, decap: i.decap, encap: i.encap && wish == TC}
			if err := l.tc(hook{tcIngress, i.index}, hookTCProgDdtbIngress, r); err != nil {
				return err
			}
		}
		if wish != TC {
			if err := l.xdp(i, port, wish); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		i.mode = wish
		return nil
	}
	return errors.Join(errs...)
}

func (l *loader) tc(h hook, program string, r role) error {
	p, err := l.constants.load(loadHookTC, program, r, l.maps)
	if err != nil {
		return err
	}
	defer p.Close()
	return l.put(h, p)
}

func (l *loader) xdp(i *iface, port uint32, mode Mode) error {
	h, other := hook{xdpNative, i.index}, hook{xdpGeneric, i.index}
	// A frame is sent back by XDP_TX where drivers do that well. A veth wants a program on the other end for it, which
	// a redirect does not need.
	r := role{port: port, canSend: portXDP, bounce: !i.veth, decap: i.decap, encap: i.encap}
	if mode == Generic {
		h, other = other, h
		r.canSend, r.bounce = portEthernet, true
	}
	p, err := l.constants.load(loadHookXDP, hookXDPProgDdtbXdp, r, l.maps)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := l.attach.remove(other); err != nil {
		return err
	}
	return l.put(h, p)
}

func (l *loader) put(h hook, p *ebpf.Program) error {
	if err := l.attach.attach(h, p); err != nil {
		return err
	}
	l.hooks = append(l.hooks, h)
	l.log.Debug().Str("hook", h.pin()).Str("show", "bpftool net show").Msg("program attached")
	return nil
}

// haveTCX tells whether the kernel has tcx links.
func haveTCX() bool {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return false
	}
	defer p.Close()
	const nowhere = 1<<31 - 1
	_, err = link.AttachTCX(link.TCXOptions{Program: p, Interface: nowhere, Attach: ebpf.AttachTCXIngress})
	return !errors.Is(err, ebpf.ErrNotSupported)
}

// haveShrinkL3 tries whether bpf_skb_adjust_room turns an IPv4 packet into the IPv6 packet in it.
func haveShrinkL3() bool {
	const macMode, decapL3IPv6 = 1, 1 << 8
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, -20), asm.Mov.Imm(asm.R3, macMode), asm.Mov.Imm(asm.R4, decapL3IPv6),
			asm.FnSkbAdjustRoom.Call(), asm.Return(),
		},
	})
	if err != nil {
		return false
	}
	defer p.Close()
	frame := make([]byte, 14+20+40)
	frame[12], frame[14], frame[34] = 0x08, 0x45, 6<<4
	code, err := p.Run(&ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)), Repeat: 1})
	return err == nil && code == 0
}
