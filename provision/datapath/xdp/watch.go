// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rhythm of the watcher.
const (
	beat      = time.Second
	trust     = 5 * time.Second // a fixed next hop that nobody refreshed for so long is not used any more
	warmEvery = 5               // beats
	seenEvery = 60              // beats; less than a record's time comes round in
	shortest  = 100 * time.Millisecond
)

// watcher follows interfaces, routes and neighbours, and keeps what the programs know of them up to date.
type watcher struct {
	host   *host
	grace  *grace
	state  *state
	places map[*iface]uint32
	fixed  bool
	warm   bool        // packets pass the neighbour table by
	pins   string      // where the maps are
	seen   func() bool // looks when clients were last heard of; false: not now
	log    zerolog.Logger

	events *os.File // a netlink socket
	kick   chan struct{}
	done   chan struct{}
	wg     sync.WaitGroup

	core, uplink way
	why          [2]string // last told reason for no fixed next hop, core and uplink
	beats        int
	unseen       int // beats since seen
}

// startWatch makes the first round before it returns, so that what can be known is known.
func (d *Driver) startWatch() (*watcher, error) {
	w := &watcher{
		host: d.host, grace: d.grace, state: d.state, places: map[*iface]uint32{}, pins: d.maps.dir, seen: d.lookForSeen, log: d.log,
		fixed: d.options.NextHop == Fixed, warm: d.options.NextHop != Stack, kick: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for i, port := range d.places {
		mine := *i
		w.places[&mine] = port
	}
	if err := d.host.Do(w.subscribe); err != nil {
		return nil, fmt.Errorf("watch routes and neighbours: %w", err)
	}
	w.state.forget()
	w.look()
	w.wg.Go(w.listen)
	w.wg.Go(w.run)
	return w, nil
}

func (w *watcher) stop() {
	close(w.done)
	_ = w.events.Close()
	w.wg.Wait()
}

// subscribe opens a netlink socket for what may change the way of a packet.
func (w *watcher) subscribe() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	groups := uint32(0)
	for _, group := range []uint{
		unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	} {
		groups |= 1 << (group - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	w.events = os.NewFile(uintptr(fd), "netlink")
	return nil
}

// listen turns messages into kicks. What they say does not matter: everything is read anew.
func (w *watcher) listen() {
	buffer := make([]byte, 1<<16)
	for {
		if _, err := w.events.Read(buffer); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) run() {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-ticker.C:
			w.beat()
		case <-w.kick:
			start := time.Now()
			w.look()
			// A host whose routes change all the time is not to spend more than a tenth of one CPU here.
			pause := max(shortest, 10*time.Since(start))
			select {
			case <-w.done:
				return
			case <-time.After(pause):
			}
		}
	}
}

// beat is what is done without being told to.
func (w *watcher) beat() {
	if w.fixed {
		w.state.prolong(now() + uint64(trust))
	}
	if w.unseen++; w.unseen >= seenEvery && w.seen() {
		w.unseen = 0
	}
	if w.beats++; w.beats%warmEvery != 0 {
		return
	}
	for i := range w.places {
		err := i.askFeatures(w.host)
		if w.warm {
			err = errors.Join(err, keepWarm(w.host, i))
		}
		if err != nil {
			w.log.Debug().Err(err).Str("interface", i.name).Msg("interface cannot be asked")
		}
	}
	w.state.setPorts(w.places)
}

// look reads everything anew.
func (w *watcher) look() {
	for i := range w.places {
		w.inspect(i)
	}
	w.state.setPorts(w.places)
	if !w.fixed {
		return
	}
	core, err := findWay(w.host, netlink.FAMILY_V6, w.places)
	w.tell(0, "core", core, err)
	uplink, err := findWay(w.host, netlink.FAMILY_V4, w.places)
	w.tell(1, "uplink", uplink, err)
	if err := w.enforce(core, uplink); err != nil {
		w.log.Error().Err(err).Msg("next hop cannot be changed")
	}
}

// inspect reads an interface anew. It says once that one is gone.
func (w *watcher) inspect(i *iface) {
	now, err := w.host.inspect(i.name)
	if err == nil && now.index == i.index {
		i.mac, i.mtu, i.gone = now.mac, now.mtu, false
		return
	}
	if !i.gone {
		w.log.Warn().Err(err).Str("interface", i.name).Msg("interface is gone or replaced; reload the configuration to attach to it when it is there")
	}
	i.gone = true
}

// enforce puts ways in force that are not yet.
func (w *watcher) enforce(core, uplink way) error {
	if core != w.core {
		if err := w.state.setCore(core.inForce(), core.exceptions6(), w.grace.wait); err != nil {
			return err
		}
		w.core = core
	}
	if uplink != w.uplink {
		if err := w.state.setUplink(uplink.inForce(), uplink.exceptions4(), w.grace.wait); err != nil {
			return err
		}
		w.uplink = uplink
	}
	w.state.prolong(now() + uint64(trust))
	return nil
}

// tell logs a change of the next hop or of the reason why there is none.
func (w *watcher) tell(n int, side string, found way, err error) {
	text := fmt.Sprintf("%x over interface %d, %d exceptions", found.hop.macs[:6], found.hop.ifindex, found.hop.exceptions)
	if err != nil {
		text = err.Error()
	}
	if text == w.why[n] {
		return
	}
	w.why[n] = text
	if err != nil {
		w.log.Info().Str("side", side).Err(err).Msg("no fixed next hop, each packet is looked up")
		return
	}
	w.log.Info().Str("side", side).Str("nexthop", text).Str("show", "bpftool map dump pinned "+w.pins+"/"+mapState).Msg("next hop fixed")
}

// inForce is the next hop with the end of its trust, nil if there is none.
func (w way) inForce() *fixedHop {
	if w.hop.ifindex == 0 {
		return nil
	}
	hop := w.hop
	hop.until = now() + uint64(trust)
	return &hop
}

func (w way) exceptions6() []exception6 {
	var all []exception6
	for _, p := range w.exceptions[:w.hop.exceptions] {
		prefix, _ := rawHalves(p.Addr())
		var mask [8]byte
		binary.BigEndian.PutUint64(mask[:], ^uint64(0)<<(64-p.Bits()))
		all = append(all, exception6{prefix: prefix, mask: binary.LittleEndian.Uint64(mask[:])})
	}
	return all
}

func (w way) exceptions4() []exception4 {
	var all []exception4
	for _, p := range w.exceptions[:w.hop.exceptions] {
		prefix := p.Addr().As4()
		var mask [4]byte
		binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-p.Bits()))
		all = append(all, exception4{prefix: binary.LittleEndian.Uint32(prefix[:]), mask: binary.LittleEndian.Uint32(mask[:])})
	}
	return all
}
