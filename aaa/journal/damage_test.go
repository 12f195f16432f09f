// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written returns the octets of a journal with one frame for each of records, and where each frame begins; the last
// offset is the end.
func written(t testing.TB, records ...string) (data []byte, offsets []int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "j")
	j, _, _ := open(t, path, Options{})
	for _, r := range records {
		offsets = append(offsets, int(j.Size()))
		appendAll(t, j, r)
	}
	offsets = append(offsets, int(j.Size()))
	closeJournal(t, j)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, offsets
}

// reopen opens a journal made of data.
func reopen(t testing.TB, data []byte) (path string, got []string, report Report, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	j, report, err := Open(path, Options{Kind: testKind}, func(r []byte) error {
		got = append(got, string(r))
		return nil
	})
	if err == nil {
		closeJournal(t, j)
	}
	return path, got, report, err
}

var threeRecords = []string{"first", "second", "third"}

// wantCut checks that data opens with the first two records, that the rest is cut, and that the journal goes on from there.
func wantCut(t *testing.T, what string, data []byte, end int) {
	t.Helper()
	path, got, report, err := reopen(t, data)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if diff := cmp.Diff(threeRecords[:2], got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
	if report.Cut != int64(len(data)-end) || report.Size != int64(end) {
		t.Errorf("%s: report %+v, want a cut of %d at %d", what, report, len(data)-end, end)
	}
	if w := report.Warning(); report.Cut > 0 && (!strings.Contains(w, path) || !strings.Contains(w, fmt.Sprint(end))) {
		t.Errorf("%s: warning %q names not file and offset", what, w)
	}
	j, _, report := open(t, path, Options{})
	if report.Cut != 0 {
		t.Errorf("%s: a second cut, %+v", what, report)
	}
	appendAll(t, j, "after")
	closeJournal(t, j)
	j, got, _ = open(t, path, Options{})
	if diff := cmp.Diff([]string{"first", "second", "after"}, got); diff != "" {
		t.Errorf("%s: after the cut: %s", what, diff)
	}
	closeJournal(t, j)
}

func TestTornTail(t *testing.T) {
	data, offsets := written(t, threeRecords...)
	last := offsets[2]
	for end := last; end < len(data); end++ {
		wantCut(t, fmt.Sprintf("file ends at %d", end), data[:end], last)
	}
	for i := last; i < len(data); i++ {
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x40
		wantCut(t, fmt.Sprintf("octet %d flipped", i), flipped, last)
	}
	zeros := append(bytes.Clone(data[:last]), make([]byte, 5000)...)
	wantCut(t, "zeros at the end", zeros, last)
}

func TestDamagedMiddle(t *testing.T) {
	data, offsets := written(t, threeRecords...)
	for i := offsets[0]; i < offsets[2]; i++ {
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x01
		frame := 0
		if i >= offsets[1] {
			frame = 1
		}
		path, _, _, err := reopen(t, flipped)
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("octet %d flipped: %v, want a DamagedError", i, err)
			continue
		}
		if damaged.Offset != int64(offsets[frame]) || damaged.Next != int64(offsets[frame+1]) || damaged.File != path {
			t.Errorf("octet %d flipped: %+v, want offset %d, next %d", i, damaged, offsets[frame], offsets[frame+1])
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, flipped) {
			t.Errorf("octet %d flipped: the file was changed (%v)", i, err)
		}
	}
}

// What the message of a DamagedError tells the operator to do must do what it says.
func TestDamagedAdvice(t *testing.T) {
	data, offsets := written(t, threeRecords...)
	data[offsets[1]+frameHeaderSize] ^= 1
	path, _, _, err := reopen(t, data)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("truncate -s %d %s", offsets[1], path)) {
		t.Fatalf("%v: no advice", err)
	}
	if err := os.Truncate(path, int64(offsets[1])); err != nil {
		t.Fatal(err)
	}
	_, got, report := open(t, path, Options{})
	if diff := cmp.Diff(threeRecords[:1], got); diff != "" || report.Cut != 0 {
		t.Errorf("%s, report %+v", diff, report)
	}
}

func TestDamagedHeader(t *testing.T) {
	data, _ := written(t, threeRecords...)
	for i := len(magic); i < headerSize; i++ {
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x01
		var damaged *DamagedError
		if _, _, _, err := reopen(t, flipped); !errors.As(err, &damaged) {
			t.Errorf("octet %d flipped: %v, want a DamagedError", i, err)
		}
	}
	for _, size := range []int{0, 5, headerSize - 1} {
		var damaged *DamagedError
		if _, _, _, err := reopen(t, data[:size]); !errors.As(err, &damaged) {
			t.Errorf("%d octets: %v, want a DamagedError", size, err)
		}
	}
}

// More than a frame at the end cannot be a torn write, even if nothing behind it is readable.
func TestLostTail(t *testing.T) {
	data, offsets := written(t, threeRecords...)
	garbage := bytes.Repeat([]byte{0xA5}, frameHeaderSize+maxPayload+1)
	_, _, _, err := reopen(t, append(data, garbage...))
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.Offset != int64(offsets[3]) || damaged.Next != 0 {
		t.Errorf("%v, want a DamagedError at %d", err, offsets[3])
	}
}

// A valid frame far behind the damage is found too, also where its marker lies across two reads.
func TestFindFrameFar(t *testing.T) {
	c, err := newCodec(bytes.NewReader([]byte("salt and pepper")))
	if err != nil {
		t.Fatal(err)
	}
	frame := appendRecord(make([]byte, frameHeaderSize), []byte("found"))
	c.seal(frame)
	for _, at := range []int{1, 1<<20 - 3, 1<<20 - 1, 1 << 20, 3<<20 + 17} {
		data := bytes.Repeat(c.marker(), at/4+1)[:at] // every place looks like a frame
		data = append(data, frame...)
		got, err := findFrame(bytes.NewReader(data), c, 0, int64(len(data)))
		if err != nil || got != int64(at) {
			t.Errorf("frame at %d: found at %d, %v", at, got, err)
		}
		got, err = findFrame(bytes.NewReader(data), c, int64(at)+1, int64(len(data)))
		if err != nil || got != 0 {
			t.Errorf("behind the frame at %d: found at %d, %v", at, got, err)
		}
	}
}

// Records that look like frames of another file are not taken for frames.
func TestRecordLikeFrame(t *testing.T) {
	other, offsets := written(t, threeRecords...)
	record := string(other[offsets[0]:])
	data, offsets := written(t, "first", "second", record)
	wantCut(t, "a record of frames", data[:len(data)-1], offsets[2])
}

func FuzzOpen(f *testing.F) {
	data, offsets := written(f, threeRecords...)
	f.Add(data[headerSize:], uint16(0), byte(0))
	f.Add(data[headerSize:len(data)-3], uint16(0), byte(0))
	f.Add(data[headerSize:], uint16(offsets[1]), byte(1))
	f.Add(bytes.Repeat(data[offsets[0]:offsets[0]+8], 9), uint16(3), byte(9))
	header := data[:headerSize]
	f.Fuzz(func(t *testing.T, body []byte, at uint16, flip byte) {
		data := append(bytes.Clone(header), body...)
		if int(at) >= headerSize && int(at) < len(data) {
			data[at] ^= flip
		}
		path, got, report, err := reopen(t, data)
		after, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err != nil {
			if !bytes.Equal(after, data) {
				t.Error("an error, and the file was changed")
			}
			return
		}
		// What is kept is what was there, and stands again the next time.
		if !bytes.Equal(after, data[:report.Size]) || report.Size+report.Cut != int64(len(data)) {
			t.Errorf("%d octets became %d, report %+v", len(data), len(after), report)
		}
		_, again, report, err := reopen(t, after)
		if err != nil || report.Cut != 0 {
			t.Fatalf("opened again: %v, %+v", err, report)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Error(diff)
		}
	})
}

// The same without a disk, for many more tries a second: no input makes the reader fail or find more than there is.
func FuzzScan(f *testing.F) {
	data, offsets := written(f, threeRecords...)
	c, _, err := parseHeader(data, testKind)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[headerSize:])
	f.Add(data[offsets[1]:])
	f.Add(append(bytes.Clone(data[offsets[0]:offsets[1]+5]), data[offsets[2]:]...))
	salt := bytes.Clone(data[:headerSize])
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _, _ = parseHeader(body, testKind)
		in := bytes.NewReader(append(bytes.Clone(salt), body...))
		var kept int64 = int64(headerSize)
		end, err := scan(in, c, kept, in.Size(), func(offset int64, payload []byte) error {
			if offset != kept {
				t.Fatalf("frame at %d, the last one ended at %d", offset, kept)
			}
			kept = offset + int64(frameHeaderSize+len(payload))
			_, err := records(payload, func([]byte) error { return nil })
			return err
		})
		if err == nil && end != kept {
			t.Errorf("end %d, frames up to %d", end, kept)
		}
		next, err := findFrame(in, c, end+1, in.Size())
		if err != nil || next != 0 && (next <= end || next >= in.Size()) {
			t.Errorf("next frame at %d of %d, behind %d: %v", next, in.Size(), end, err)
		}
	})
}
