// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
	"ddtb/provision/lease"
	"ddtb/provision/redis"
)

// takeoverGoal is the longest that a subscriber's old server may keep his tunnel.
var takeoverGoal = goal{1000, atMost}

func takeoverCommand() *cobra.Command {
	count := fullPlan().takeovers
	command := subject("takeover", "How soon a tunnel server gives up a subscriber who logs in at another",
		`Runs a redis-server and two brokers that share it, without a datapath. Subscribers have sessions at the first; each logs in
at the second, one after another. Measured is the time from the login's beginning until the first has stopped his tunnel and has given
the Stop record; then the same with eight logins at a time.`,
		func(ctx context.Context, r *report) error { return takeover(ctx, count, r) })
	command.Flags().IntVar(&count, "count", count, "subscribers that move")
	return command
}

// takeover measures takeovers from one broker by another.
func takeover(ctx context.Context, count int, r *report) (err error) {
	if err := positive(map[string]int{"count": count}); err != nil {
		return err
	}
	r.progress("takeover: %d subscribers move from one server to another", count)
	conn, stop, err := startRedis(ctx, fullPlan().lease)
	if err != nil {
		return err
	}
	defer stop()
	var nodes [2]*fleetNode
	for i := range nodes {
		if nodes[i], err = newFleetNode(ctx, i+1, conn); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, nodes[i].close()) }()
	}
	alone, err := nodes[0].lose(ctx, nodes[1], count, 1)
	if err != nil {
		return err
	}
	together, err := nodes[1].lose(ctx, nodes[0], count, 8)
	if err != nil {
		return err
	}
	r.add("takeover.ms.p50", milliseconds(percentile(alone, 50)), "ms", goal{})
	r.add("takeover.ms.p99", milliseconds(percentile(alone, 99)), "ms", takeoverGoal)
	r.add("takeover.ms.x8.p50", milliseconds(percentile(together, 50)), "ms", goal{})
	r.add("takeover.ms.x8.p99", milliseconds(percentile(together, 99)), "ms", takeoverGoal)
	return nil
}

// fleetNode is a tunnel server without a datapath.
type fleetNode struct {
	number  int
	store   *lease.Redis
	broker  *provision.Broker
	agent   *fleet.Agent
	stop    context.CancelFunc
	running *errgroup.Group
}

func (n *fleetNode) name() string { return fmt.Sprintf("bench%d", n.number) }
func (n *fleetNode) local() netip.AddrPort {
	return netip.AddrPortFrom(addIPv4(server4.Addr(), uint32(n.number)), tspPort)
}

func newFleetNode(ctx context.Context, number int, conn *redis.Conn) (*fleetNode, error) {
	n := &fleetNode{number: number}
	pools := []lease.Pool{lease.Pool(datapathConfig(most).Pools[0])}
	pools[0].Size = 1 << 16
	var err error
	if n.store, err = lease.OpenRedis(ctx, pools, lease.RedisOptions{Conn: conn, Node: n.name(), Grace: time.Second}); err != nil {
		return nil, err
	}
	path := datapath.NewNull(time.Now)
	config := datapath.Config{Device: "bench0", Local: []netip.AddrPort{n.local()}, Server: tunnelServer, MTU: 1280, Pools: []datapath.Pool{datapath.Pool(pools[0])}}
	err = path.Configure(ctx, config)
	if err == nil {
		n.broker, err = provision.New(provision.Config{Node: n.name(), Server: tunnelServer, Pools: pools},
			provision.Deps{Store: n.store, Datapath: path, Logger: zerolog.Nop()})
	}
	if err == nil {
		err = n.broker.Recover(ctx)
	}
	if err == nil {
		n.agent, err = fleet.New(n.broker, fleet.NewRedis(conn, nil), fleet.Options{Name: n.name(), Address: n.local().Addr(), Logger: zerolog.Nop()})
	}
	if err != nil {
		return nil, errors.Join(err, n.store.Close())
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop, n.running = stop, &errgroup.Group{}
	n.running.Go(func() error { return n.broker.Run(run) })
	n.running.Go(func() error { return n.agent.Run(run) })
	return n, nil
}

func (n *fleetNode) close() error {
	n.stop()
	return errors.Join(n.running.Wait(), n.store.Close())
}

// login gives a subscriber a session. A pool that is new, or one after a failover, has to be waited for.
func (n *fleetNode) login(ctx context.Context, i int) (provision.Session, error) {
	for {
		s, err := n.broker.Offer(ctx, provision.Request{
			Subscriber: aaa.Subscriber{Name: fmt.Sprint("mover", i), Backend: "local", Authentic: aaa.AuthenticLocal},
			Encap:      datapath.V6UDPV4, Client: netip.AddrPortFrom(loginSource(i), firstLoginPort), Local: n.local(), Keepalive: time.Minute,
		})
		if err == nil {
			return s, n.broker.Activate(ctx, s.ID)
		}
		if !errors.Is(err, provision.ErrInProgress) || wait(ctx, 50*time.Millisecond) != nil {
			return s, err
		}
	}
}

// lose has subscribers of n log in at another server, so many at a time, and measures until each is gone from n.
func (n *fleetNode) lose(ctx context.Context, to *fleetNode, count, atOnce int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	ids := make([]string, count)
	for i := range ids {
		s, err := n.login(ctx, i)
		if err != nil {
			return nil, err
		}
		ids[i] = s.ID
	}
	took := make([]time.Duration, count)
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, id := range ids {
		group.Go(func() error {
			begin := time.Now()
			if _, err := to.login(inner, i); err != nil {
				return err
			}
			for {
				if _, there := n.broker.Session(id); !there {
					took[i] = time.Since(begin)
					return nil
				}
				if err := wait(inner, time.Millisecond/4); err != nil {
					return fmt.Errorf("session %s is still at %s: %w", id, n.name(), err)
				}
			}
		})
	}
	return took, group.Wait()
}
