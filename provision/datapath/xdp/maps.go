// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// The names of maps, in the objects and as pins.
const (
	mapTunnels = hookTCMapTunnels
	mapForeign = hookTCMapForeign
	mapState   = hookTCMapState
	mapDrops   = hookTCMapDrops
	mapBudget  = hookTCMapBudget
)

// maps are the maps of a pin path.
type maps struct {
	dir   string
	named map[string]*ebpf.Map
}

// openMaps opens what is pinned in a directory and makes the rest. The map of tunnels is made for a layout if there is none;
// then it is fresh. If there is one it may be of another, which is for the caller to mend (replaceTunnels).
func openMaps(dir string, l layout) (opened *maps, fresh bool, err error) {
	spec, err := loadHookTC()
	if err != nil {
		return nil, false, err
	}
	spec.Maps[mapTunnels].MaxEntries = l.entries()
	m := &maps{dir: dir, named: map[string]*ebpf.Map{}}
	for _, name := range []string{mapTunnels, mapForeign, mapState, mapDrops, mapBudget} {
		one, made, err := openMap(spec.Maps[name], filepath.Join(dir, name))
		if err != nil {
			return nil, false, errors.Join(err, m.close())
		}
		m.named[name] = one
		fresh = fresh || made && name == mapTunnels
	}
	return m, fresh, nil
}

// openMap opens a pinned map or makes it.
func openMap(spec *ebpf.MapSpec, path string) (m *ebpf.Map, made bool, err error) {
	m, err = ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		if m.Type() != spec.Type || m.KeySize() != spec.KeySize || m.ValueSize() != spec.ValueSize {
			_ = m.Close()
			return nil, false, fmt.Errorf("%s: not a map of this program, though of version %s; remove what is pinned there", path, version)
		}
		return m, false, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("open map %s: %w", path, err)
	}
	if m, err = ebpf.NewMap(spec); err != nil {
		return nil, false, fmt.Errorf("make map %s: %w", spec.Name, err)
	}
	if err := m.Pin(path); err != nil {
		return nil, false, errors.Join(fmt.Errorf("pin map: %w", err), m.Close())
	}
	return m, true, nil
}

func (m *maps) close() error {
	var errs []error
	for _, one := range m.named {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}

// newTunnels makes a map of records that is not pinned yet.
func (m *maps) newTunnels(l layout) (*ebpf.Map, error) {
	spec, err := loadHookTC()
	if err != nil {
		return nil, err
	}
	spec.Maps[mapTunnels].MaxEntries = l.entries()
	made, err := ebpf.NewMap(spec.Maps[mapTunnels])
	if err != nil {
		return nil, fmt.Errorf("make map %s of %d records: %w", mapTunnels, l.entries(), err)
	}
	return made, nil
}

// replaceTunnels pins another map of records in the place of the one there, in one step.
func (m *maps) replaceTunnels(made *ebpf.Map) error {
	path, next := filepath.Join(m.dir, mapTunnels), filepath.Join(m.dir, "next")
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := made.Pin(next); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	old := m.named[mapTunnels]
	m.named[mapTunnels] = made
	return old.Close()
}
