// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// String gives the address or the name, fit for Client.Dial.
func (b Broker) String() string {
	if b.Addr.IsValid() {
		return b.Addr.String()
	}
	return b.Name
}

// Probe sends every broker an ECHO REQUEST over UDP and returns those that answered with 200 before ctx was done, the one with the
// shortest round trip first. Brokers by name are resolved. At most 50 are asked. Without a deadline in ctx, each is asked
// Tries times.
func (c *Client) Probe(ctx context.Context, brokers []Broker) []Broker {
	client := c.withDefaults()
	type answer struct {
		broker Broker
		rtt    time.Duration
	}
	var mu sync.Mutex
	var answers []answer
	var group sync.WaitGroup
	for _, broker := range brokers[:min(len(brokers), maxBrokers)] {
		group.Go(func() {
			rtt, err := client.echo(ctx, broker)
			if err != nil {
				client.Log.Debug().Err(err).Stringer("broker", broker).Msg("broker does not answer")
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, answer{broker, rtt})
		})
	}
	group.Wait()
	slices.SortStableFunc(answers, func(a, b answer) int { return cmp.Compare(a.rtt, b.rtt) })
	sorted := make([]Broker, len(answers))
	for i, a := range answers {
		sorted[i] = a.broker
	}
	return sorted
}

// echo measures one broker's round trip, of the copy that was answered.
func (c *Client) echo(ctx context.Context, broker Broker) (time.Duration, error) {
	addresses, err := c.resolve(ctx, "udp", broker.String())
	if err != nil {
		return 0, err
	}
	socket, err := c.Dialer.DialContext(ctx, "udp", netip.AddrPortFrom(addresses[0], Port).String())
	if err != nil {
		return 0, err
	}
	conn, err := c.newConn(socket, broker.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	udp, ok := conn.transport.(*udpTransport)
	if !ok {
		return 0, fmt.Errorf("broker %s is not reached over UDP", broker)
	}
	release := conn.guard(ctx)
	defer release()
	data, err := udp.exchange(ctx, echoRequest)
	if err != nil {
		return 0, err
	}
	return udp.rtt, statusError(data)
}
