// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

func (t *tool) sessionWatchCommand() *cobra.Command {
	var flags filterFlags
	var rates bool
	var interval time.Duration
	var top, rounds int
	watch := &cobra.Command{
		Use:   "watch",
		Short: "Follow logins and logouts, or live rates, until interrupted",
		Long: `Without --rates: print each login, logout, takeover and kick as it happens, of the sessions that match the filters.

With --rates: every --interval, print the busiest sessions that match with their bits and packets a second. The daemon
itself looks at the kernel's counters every session.sweep (10 s by default), so a shorter interval shows zeros between.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			filter, err := flags.filter()
			if err != nil {
				return err
			}
			if interval < time.Second || top < 1 || rounds < 0 {
				return usageError{errors.New("--interval of 1s or more, --top of 1 or more and --rounds of 0 or more are expected")}
			}
			err = t.withClient(func(client *control.Client) error {
				if rates {
					return t.watchRates(c.Context(), client, filter, interval, top, rounds)
				}
				return t.watchEvents(c.Context(), client, filter)
			})
			if c.Context().Err() != nil {
				return nil // interrupted, which is how it ends
			}
			return err
		},
	}
	flags.add(watch)
	watch.Flags().BoolVar(&rates, "rates", false, "show live rates instead of events")
	watch.Flags().DurationVar(&interval, "interval", 10*time.Second, "with --rates: `time` between two looks")
	watch.Flags().IntVar(&top, "top", 20, "with --rates: at most this `number` of sessions, the busiest")
	watch.Flags().IntVar(&rounds, "rounds", 0, "with --rates: stop after this `number` of tables; 0 goes on")
	return watch
}

// watchEvents prints what happens, one line each, at once.
func (t *tool) watchEvents(ctx context.Context, client *control.Client, filter control.SessionFilter) error {
	encoder := json.NewEncoder(t.out)
	for event, err := range client.Events(ctx) {
		switch {
		case err != nil:
			return err
		case event.Session != nil && !matches(filter, *event.Session):
			continue
		case t.json:
			if err := encoder.Encode(event); err != nil {
				return err
			}
		default:
			fmt.Fprintln(t.out, eventLine(event))
		}
	}
	return errors.New("the daemon ended the stream")
}

func eventLine(e control.Event) string {
	text := e.Time.Local().Format("15:04:05") + "  "
	if e.Session == nil {
		return text + fmt.Sprintf("%-8s  %d events before the next one: this terminal was too slow", e.Kind, e.Lost)
	}
	s := e.Session
	text += fmt.Sprintf("%-8s  %s  %s  %s  from %s  %s", e.Kind, visible(s.User), s.Endpoint, orDash(s.Prefix), address(s.Client), s.Encap)
	if e.Cause != "" {
		text += fmt.Sprintf("  %s, rx %s, tx %s", e.Cause, octets(s.Traffic.RxOctets), octets(s.Traffic.TxOctets))
	}
	return text + "  " + s.ID
}

// matches tells what the daemon would say of a session if it were asked for a list.
func matches(f control.SessionFilter, s control.Session) bool {
	within := func() bool {
		return s.Prefix != nil && s.Prefix.Contains(f.Address) ||
			slices.ContainsFunc(s.Routes, func(p netip.Prefix) bool { return p.Contains(f.Address) })
	}
	overlaps := func() bool {
		return f.Prefix.Contains(s.Endpoint) || s.Prefix != nil && s.Prefix.Overlaps(f.Prefix) || slices.ContainsFunc(s.Routes, f.Prefix.Overlaps)
	}
	return (f.User == "" || f.User == s.User) &&
		(!f.Address.IsValid() || f.Address == s.Endpoint || within()) &&
		(!f.Prefix.IsValid() || overlaps()) &&
		(!f.Client.IsValid() || f.Client == s.Client.Addr()) &&
		(f.Encap == "" || f.Encap == s.Encap) &&
		(f.State == "" || f.State == s.State)
}

// Rate is one session's traffic between two looks; what --json prints.
type Rate struct {
	Session   string  `json:"session"`
	User      string  `json:"user"`
	Endpoint  string  `json:"endpoint"`
	RxBits    float64 `json:"rx_bits_per_second"` // from the client
	TxBits    float64 `json:"tx_bits_per_second"`
	RxPackets float64 `json:"rx_packets_per_second"`
	TxPackets float64 `json:"tx_packets_per_second"`
}

// watchRates prints a table of the busiest sessions every interval; rounds of 0 goes on until ctx is done.
func (t *tool) watchRates(ctx context.Context, client *control.Client, filter control.SessionFilter, interval time.Duration, top, rounds int) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	before, err := counters(ctx, client, filter)
	if err != nil {
		return err
	}
	last := t.now()
	for round := 1; rounds == 0 || round <= rounds; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, err := counters(ctx, client, filter)
		if err != nil {
			return err
		}
		at := t.now()
		if err := t.printRates(rates(before, now, at.Sub(last)), top); err != nil {
			return err
		}
		before, last = now, at
	}
	return nil
}

func counters(ctx context.Context, client *control.Client, filter control.SessionFilter) (map[string]control.Session, error) {
	out := map[string]control.Session{}
	for s, err := range client.Sessions(ctx, filter) {
		if err != nil {
			return nil, err
		}
		out[s.ID] = s
	}
	return out, nil
}

// rates gives the sessions with traffic between two looks, the busiest first. A session that is new counts from zero.
func rates(before, now map[string]control.Session, elapsed time.Duration) []Rate {
	var out []Rate
	per := func(now, then uint64) float64 {
		if now < then || elapsed <= 0 {
			return 0
		}
		return float64(now-then) / elapsed.Seconds()
	}
	for id, s := range now {
		then := before[id].Traffic
		r := Rate{
			Session: id, User: s.User, Endpoint: s.Endpoint.String(),
			RxBits: 8 * per(s.Traffic.RxOctets, then.RxOctets), TxBits: 8 * per(s.Traffic.TxOctets, then.TxOctets),
			RxPackets: per(s.Traffic.RxPackets, then.RxPackets), TxPackets: per(s.Traffic.TxPackets, then.TxPackets),
		}
		if r.RxPackets+r.TxPackets > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Rate) int {
		return cmp.Or(cmp.Compare(b.RxBits+b.TxBits, a.RxBits+a.TxBits), cmp.Compare(a.Session, b.Session))
	})
	return out
}

func (t *tool) printRates(all []Rate, top int) error {
	if !t.json {
		fmt.Fprintf(t.out, "%s  %d sessions with traffic\n", t.now().Local().Format("15:04:05"), len(all))
	}
	out := t.newList("USER", "ENDPOINT", "RX", "TX", "RX PACKETS/s", "TX PACKETS/s", "SESSION")
	for _, r := range all[:min(top, len(all))] {
		if err := out.add(r, func() []string {
			return []string{
				r.User, r.Endpoint, bits(r.RxBits), bits(r.TxBits),
				fmt.Sprintf("%.0f", r.RxPackets), fmt.Sprintf("%.0f", r.TxPackets), r.Session,
			}
		}); err != nil {
			return err
		}
	}
	return out.flush()
}
