// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// DamagedError says that a journal holds damage that no crash explains. The file was left as it is.
type DamagedError struct {
	File   string
	Offset int64 // where the damage begins
	Next   int64 // where it can be read again; 0: nowhere
	Size   int64 // of the file
}

// Error says what is damaged and what can be done.
func (e *DamagedError) Error() string {
	if e.Offset < int64(headerSize) {
		return fmt.Sprintf("journal %s: damaged at offset 0: its header cannot be read, and with it nothing else. Nothing was changed. "+
			"Restore the file from a backup, or move it away to start with an empty one", e.File)
	}
	extent := fmt.Sprintf("the %d octets up to its end cannot be read, more than a crash can tear", e.Size-e.Offset)
	if e.Next > 0 {
		extent = fmt.Sprintf("it can be read again from offset %d", e.Next)
	}
	return fmt.Sprintf("journal %s: damaged at offset %d: %s. Records there had been acknowledged: suspect the disk. Nothing was changed. "+
		"Restore the file from a backup; or copy it away and run `truncate -s %d %s`, which keeps what was written before the damage and gives up all that came after it",
		e.File, e.Offset, extent, e.Offset, e.File)
}

// load opens or makes the file, replays it and cuts a torn end.
func (j *Journal) load(replay func(record []byte) error) (Report, error) {
	report := Report{File: j.path}
	if err := os.Remove(j.newPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return report, fmt.Errorf("journal: what is left of a compaction: %w", err)
	}
	if err := j.openFile(); err != nil {
		return report, err
	}
	info, err := j.file.Stat()
	if err != nil {
		return report, fmt.Errorf("journal: %w", err)
	}
	end, err := j.replay(info.Size(), func(r []byte) error {
		report.Records++
		return replay(r)
	})
	if err != nil {
		return report, err
	}
	report.Size, report.Cut = end, info.Size()-end
	j.size.Store(end)
	if report.Cut > 0 {
		j.dirty = true
		if err := j.repair(); err != nil {
			return report, fmt.Errorf("journal %s: cutting a torn end at offset %d: %w", j.path, end, err)
		}
	}
	return report, nil
}

// openFile opens the file and reads its header; a new one gets its name only when its header is on disk.
func (j *Journal) openFile() error {
	f, err := os.OpenFile(j.path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return j.createFile()
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.file = j.opts.wrap(f)
	header := make([]byte, headerSize)
	n, err := f.ReadAt(header, 0)
	if unlessEOF(err) != nil {
		return fmt.Errorf("journal: %w", err)
	}
	var base int64
	j.codec, base, err = parseHeader(header[:n], j.opts.Kind)
	if errors.Is(err, errFrame) {
		return &DamagedError{File: j.path}
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	j.planCompaction(base)
	return nil
}

func (j *Journal) createFile() error {
	f, c, err := j.newFile()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.file, j.codec = f, c
	j.planCompaction(0)
	err = f.Datasync()
	if err == nil {
		err = os.Rename(j.newPath(), j.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(j.path))
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// replay hands all records of a file of the given size to fn and returns the end of the last valid frame, if all that
// is behind it may be cut.
func (j *Journal) replay(size int64, fn func(record []byte) error) (int64, error) {
	end, err := scan(j.file, j.codec, int64(headerSize), size, func(offset int64, payload []byte) error {
		if _, err := records(payload, fn); err != nil {
			return fmt.Errorf("journal %s: record at offset %d: %w", j.path, offset, err)
		}
		return nil
	})
	if err != nil || end == size {
		return end, err
	}
	next, err := findFrame(j.file, j.codec, end+1, size)
	if err != nil {
		return end, fmt.Errorf("journal %s: %w", j.path, err)
	}
	if next > 0 || size-end > frameHeaderSize+maxPayload {
		return end, &DamagedError{File: j.path, Offset: end, Next: next, Size: size}
	}
	return end, nil
}

// scan hands the payload of each frame from offset from on to fn, until a place where no valid frame begins, which it
// returns. A payload is fn's only during the call.
func scan(r io.ReaderAt, c codec, from, size int64, fn func(offset int64, payload []byte) error) (int64, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(r, from, size-from), 1<<20)
	header := make([]byte, frameHeaderSize)
	var buf []byte
	for offset := from; ; {
		if _, err := io.ReadFull(in, header); err != nil {
			return offset, unlessEOF(err)
		}
		n, err := c.payloadSize(header, size-offset-frameHeaderSize)
		if err != nil {
			return offset, nil
		}
		if cap(buf) < n {
			buf = make([]byte, max(n, 2*cap(buf)))
		}
		payload := buf[:n]
		if _, err := io.ReadFull(in, payload); err != nil {
			return offset, unlessEOF(err)
		}
		if c.check(header, payload) != nil {
			return offset, nil
		}
		if err := fn(offset, payload); err != nil {
			return offset, err
		}
		offset += int64(frameHeaderSize + n)
	}
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// findFrame returns the offset of the first valid frame at or after from, 0 if there is none.
func findFrame(r io.ReaderAt, c codec, from, size int64) (int64, error) {
	window := make([]byte, 1<<20)
	for from < size {
		n, err := r.ReadAt(window, from)
		if unlessEOF(err) != nil {
			return 0, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(window[at:n], c.marker())
			if i < 0 {
				break
			}
			at += i
			if isFrame(r, c, from+int64(at), size) {
				return from + int64(at), nil
			}
		}
		if n < len(window) {
			break
		}
		from += int64(n - len(c.marker()) + 1) // a marker may lie across the border
	}
	return 0, nil
}

func isFrame(r io.ReaderAt, c codec, offset, size int64) bool {
	header := make([]byte, frameHeaderSize)
	if _, err := r.ReadAt(header, offset); err != nil {
		return false
	}
	n, err := c.payloadSize(header, size-offset-frameHeaderSize)
	if err != nil {
		return false
	}
	payload := make([]byte, n)
	if _, err := r.ReadAt(payload, offset+frameHeaderSize); err != nil {
		return false
	}
	return c.check(header, payload) == nil
}
