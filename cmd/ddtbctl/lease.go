// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
)

// leaseArgument is what LEASE means on the command line.
const leaseArgument = `LEASE is POOL/INDEX, or an address: the endpoint, or one within the delegated prefix.`

func (t *tool) leaseCommand() *cobra.Command {
	return group(&cobra.Command{Use: "lease", Short: "Leases: who has, had or is kept which addresses"},
		t.leaseListCommand(), t.leaseShowCommand(), t.leaseReleaseCommand(), t.leaseReserveCommand())
}

func (t *tool) leaseListCommand() *cobra.Command {
	var filter control.LeaseFilter
	var addr string
	list := &cobra.Command{
		Use:   "list",
		Short: "List leases",
		Long: `List the leases that match all the given filters, in no order. An active lease is held by a session; an idle one is kept for
its last owner until somebody else needs it; a reserved one is kept for its owner for ever. --state displaced shows what is none
any more: sessions that lost theirs to a login at another server, or to a reservation, and wait for the Stop record of their
own one.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if addr != "" {
				parsed, err := netip.ParseAddr(addr)
				if err != nil {
					return usageError{fmt.Errorf("--address: %q is not an IP address", addr)}
				}
				filter.Address = parsed
			}
			if err := word("--state", filter.State, "active", "idle", "reserved", "displaced"); err != nil {
				return err
			}
			return t.withClient(func(client *control.Client) error { return t.listLeases(c.Context(), client, filter) })
		},
	}
	list.Flags().StringVar(&filter.Pool, "pool", "", "only leases of this `pool`")
	list.Flags().StringVar(&filter.User, "user", "", "only leases of this `user`")
	list.Flags().StringVar(&addr, "address", "", "only the lease with this `address`, its endpoint or within its prefix")
	list.Flags().StringVar(&filter.State, "state", "", "only leases in this `state`: active, idle, reserved or displaced")
	return list
}

func (t *tool) listLeases(ctx context.Context, client *control.Client, filter control.LeaseFilter) error {
	out := t.newList("LEASE", "OWNER", "STATE", "ENDPOINT", "PREFIX", "EXPIRES", "SESSION")
	for l, err := range client.Leases(ctx, filter) {
		if err != nil {
			return out.fail(err)
		}
		if err := out.add(l, func() []string { return t.leaseRow(l) }); err != nil {
			return err
		}
	}
	return out.flush()
}

func (t *tool) leaseRow(l control.Lease) []string {
	row := []string{leaseName(l), l.User, l.State, l.Endpoint.String(), orDash(l.Prefix), "-", "-"}
	if l.Expires != nil {
		if left := l.Expires.Sub(t.now()); left > 0 {
			row[5] = "in " + span(left)
		} else {
			row[5] = span(-left) + " ago"
		}
	}
	if l.Session != "" {
		row[6] = l.Session
	}
	return row
}

func leaseName(l control.Lease) string { return l.Pool + "/" + strconv.FormatUint(uint64(l.Index), 10) }

func (t *tool) leaseShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show LEASE",
		Short: "Show one lease",
		Long:  "Show one lease. " + leaseArgument,
		Args:  exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withLease(c.Context(), args[0], func(client *control.Client, pool string, index uint32) error {
				l, err := client.Lease(c.Context(), pool, index)
				if err != nil {
					return err
				}
				return t.describe(l, t.leaseLines(l))
			})
		},
	}
}

func (t *tool) leaseLines(l control.Lease) []line {
	lines := []line{
		{"lease", leaseName(l)},
		{"owner", l.User},
		{"state", l.State},
		{"endpoint", l.Endpoint.String()},
		{"prefix", orNothing(l.Prefix)},
		{"tunnel id", strconv.FormatUint(uint64(l.TunnelID), 10)},
		{"session", l.Session},
		{"node", l.Node},
	}
	if l.Foreign {
		lines[4].value += ", from outside the pools"
	}
	if l.Since != nil {
		lines = append(lines, line{"since", t.moment(*l.Since)})
	}
	if l.Expires != nil {
		lines = append(lines, line{"expires", t.moment(*l.Expires)})
	}
	return lines
}

func (t *tool) leaseReleaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release LEASE",
		Short: "End a lease and the session that holds it",
		Long:  "End a lease, and the session that holds it. A reservation stays (see reserve --off). " + leaseArgument,
		Args:  exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withLease(c.Context(), args[0], func(client *control.Client, pool string, index uint32) error {
				if err := client.ReleaseLease(c.Context(), pool, index); err != nil {
					return err
				}
				return t.done(map[string]any{"pool": pool, "index": index, "done": "released"}, "released %s/%d", pool, index)
			})
		},
	}
}

func (t *tool) leaseReserveCommand() *cobra.Command {
	var user string
	var off bool
	reserve := &cobra.Command{
		Use:   "reserve LEASE --user NAME",
		Short: "Keep an endpoint and prefix for a user for ever",
		Long: `Keep an endpoint and its prefix for a user for ever, or with --off no longer: his next login in that pool gets them.
It is refused while somebody else holds them, and for lease.quarantine after that or after the end of a reservation. ` + leaseArgument,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if user == "" {
				return usageError{errors.New("--user is missing")}
			}
			return t.withLease(c.Context(), args[0], func(client *control.Client, pool string, index uint32) error {
				if err := client.Reserve(c.Context(), pool, index, user, !off); err != nil {
					return err
				}
				verb := "reserved"
				if off {
					verb = "no longer reserved"
				}
				return t.done(map[string]any{"pool": pool, "index": index, "user": user, "done": verb}, "%s/%d is %s for %s", pool, index, verb, user)
			})
		},
	}
	reserve.Flags().StringVar(&user, "user", "", "the `user` it is kept for")
	reserve.Flags().BoolVar(&off, "off", false, "keep it no longer")
	return reserve
}

// withLease finds out which lease a word of the command line names and calls f with it.
func (t *tool) withLease(ctx context.Context, name string, f func(client *control.Client, pool string, index uint32) error) error {
	if pool, number, found := strings.Cut(name, "/"); found {
		index, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return usageError{fmt.Errorf("lease %q: expected POOL/INDEX such as homes/7, or an address", name)}
		}
		return t.withClient(func(client *control.Client) error { return f(client, pool, uint32(index)) })
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return usageError{fmt.Errorf("lease %q: expected POOL/INDEX such as homes/7, or an address", name)}
	}
	return t.withClient(func(client *control.Client) error {
		pools, err := client.Pools(ctx)
		if err != nil {
			return err
		}
		for _, p := range pools {
			if index, ok := arithmetic(p).Index(addr); ok {
				return f(client, p.Name, index)
			}
		}
		return fmt.Errorf("%s lies in no pool", addr)
	})
}
