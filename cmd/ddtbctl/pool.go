// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"ddtb/provision/control"
	"ddtb/provision/lease"
)

func (t *tool) poolCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the pools and how full they are",
		Args:  exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.withClient(func(client *control.Client) error {
				pools, err := client.Pools(c.Context())
				if err != nil {
					return err
				}
				out := t.newList("POOL", "ENDPOINTS", "PREFIXES", "SIZE", "ACTIVE", "IDLE", "RESERVED", "FREE", "USED")
				for _, p := range pools {
					if err := out.add(p, func() []string { return poolRow(p) }); err != nil {
						return err
					}
				}
				return out.flush()
			})
		},
	}
	show := &cobra.Command{
		Use:               "show POOL",
		Short:             "Show one pool",
		Args:              exactly(1),
		ValidArgsFunction: t.complete(poolNames, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withClient(func(client *control.Client) error {
				p, err := client.Pool(c.Context(), args[0])
				if err != nil {
					return err
				}
				return t.describe(p, poolLines(p))
			})
		},
	}
	return group(&cobra.Command{Use: "pool", Short: "Pools of addresses and prefixes"}, list, show)
}

func poolRow(p control.Pool) []string {
	return []string{
		p.Name, p.Endpoints.String(), prefixes(p, "-"), grouped(p.Size), grouped(p.Active), grouped(p.Idle),
		grouped(p.Reserved), grouped(p.Free), used(p),
	}
}

func poolLines(p control.Pool) []line {
	return []line{
		{"pool", p.Name},
		{"endpoints", p.Endpoints.String()},
		{"prefixes", prefixes(p, "none are delegated")},
		{"tunnel ids", fmt.Sprintf("%d to %d", p.FirstID, p.FirstID+p.Size-1)},
		{"indices", grouped(p.Size) + ", of which index 0 is never given out"},
		{"active", grouped(p.Active) + ", held by a session"},
		{"idle", grouped(p.Idle) + ", kept for their last subscriber until somebody needs them"},
		{"reserved", grouped(p.Reserved) + ", kept for a subscriber for ever, not held now"},
		{"free", grouped(p.Free)},
		{"used", used(p)},
	}
}

func prefixes(p control.Pool, none string) string {
	if !p.Prefixes.IsValid() {
		return none
	}
	return p.Prefixes.String() + ", /" + strconv.Itoa(p.PrefixLen) + " each"
}

// used is the part of a pool that a new subscriber cannot get.
func used(p control.Pool) string {
	if p.Size < 2 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(p.Active+p.Reserved)/float64(p.Size-1))
}

// arithmetic gives a pool with its arithmetic from index to address and back.
func arithmetic(p control.Pool) lease.Pool {
	pool := lease.Pool{Name: p.Name, First: p.FirstID, Size: p.Size, EndpointBase: p.Endpoints.Addr()}
	if p.Prefixes.IsValid() {
		pool.PrefixBase, pool.PrefixLen = p.Prefixes.Addr(), p.PrefixLen
	}
	return pool
}
