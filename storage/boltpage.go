package storage

// boltPage is the header of a page; boltcheck.go draws it.
type boltPage struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32
}

// boltEntry is an element of a page with what it points at: of a branch the
// page below and its first key, of a leaf a key and its value.
type boltEntry struct {
	flags      uint32
	page       uint64
	key, value []byte
}

func parseBoltHeader(b []byte) boltPage {
	return boltPage{
		id: boltOrder.Uint64(b), flags: boltOrder.Uint16(b[8:]), count: boltOrder.Uint16(b[10:]), overflow: boltOrder.Uint32(b[12:]),
	}
}

func (h boltPage) elementsEnd() uint64 { return boltHeader + boltElement*uint64(h.count) }

// element reads the numbers of the i-th element.
func (h boltPage) element(b []byte, i uint64) (flags uint32, page, pos, keyLen, valueLen uint64) {
	b = b[boltHeader+boltElement*i:]
	if h.flags == boltBranch {
		return 0, boltOrder.Uint64(b[8:]), uint64(boltOrder.Uint32(b)), uint64(boltOrder.Uint32(b[4:])), 0
	}
	return boltOrder.Uint32(b), 0, uint64(boltOrder.Uint32(b[4:])), uint64(boltOrder.Uint32(b[8:])), uint64(boltOrder.Uint32(b[12:]))
}

// size gives how many bytes a page takes by its elements, all of which b must
// have; 0 where keys and values do not follow each other or a key is empty.
func (h boltPage) size(b []byte) uint64 {
	end := h.elementsEnd()
	for i := range uint64(h.count) {
		_, _, pos, keyLen, valueLen := h.element(b, i)
		if boltHeader+boltElement*i+pos != end || keyLen == 0 {
			return 0
		}
		end += keyLen + valueLen
	}
	return end
}

// entries gives what is in a page of which b has all of its size.
func (h boltPage) entries(b []byte) []boltEntry {
	entries := make([]boltEntry, h.count)
	at := h.elementsEnd()
	for i := range entries {
		flags, page, _, keyLen, valueLen := h.element(b, uint64(i))
		entries[i] = boltEntry{flags: flags, page: page, key: b[at : at+keyLen], value: b[at+keyLen : at+keyLen+valueLen]}
		at += keyLen + valueLen
	}
	return entries
}

// read gives the first n bytes from the front of a page on, which must end
// before the last page in use does.
func (w *boltWalk) read(id, n uint64) ([]byte, error) {
	if id < firstBoltPage || id >= w.pages || n > (w.pages-id)*w.pageSize {
		return nil, wrongPage(id, "is not in the file, or ends behind it")
	}
	b := make([]byte, n)
	_, err := w.file.ReadAt(b, int64(id*w.pageSize)) //nolint:gosec // less than the file's size
	return b, err
}

// header reads a page's header. The page counts as reached, with all that it
// goes on over.
func (w *boltWalk) header(id uint64) (h boltPage, err error) {
	b, err := w.read(id, boltHeader)
	if err != nil {
		return h, err
	}
	if h = parseBoltHeader(b); h.id != id {
		return h, wrongPage(id, "says that it is another one")
	}
	if uint64(h.overflow) >= w.pages-id {
		return h, wrongPage(id, "goes on behind the file")
	}
	for page := id; page <= id+uint64(h.overflow); page++ {
		if w.reached[page] {
			return h, wrongPage(page, "is in two places")
		}
		w.reached[page] = true
	}
	return h, nil
}

// page reads a page of a tree.
func (w *boltWalk) page(id uint64) (branch bool, entries []boltEntry, err error) {
	h, err := w.header(id)
	if err != nil {
		return false, nil, err
	}
	branch = h.flags == boltBranch
	if !branch && h.flags != boltLeaf || branch && h.count == 0 {
		return false, nil, wrongPage(id, "is neither a branch nor a leaf")
	}
	elements, err := w.read(id, h.elementsEnd())
	if err != nil {
		return false, nil, err
	}
	size := h.size(elements)
	if size == 0 || (size-1)/w.pageSize != uint64(h.overflow) {
		return false, nil, wrongPage(id, "does not add up")
	}
	b, err := w.read(id, size)
	if err != nil {
		return false, nil, err
	}
	return branch, h.entries(b), nil
}

// free reads the list of free pages, where there is one: in a file in which
// only its creation was committed.
func (w *boltWalk) free() ([]uint64, error) {
	if w.freelist == noFreelist {
		return nil, nil
	}
	h, err := w.header(w.freelist)
	if err != nil {
		return nil, err
	}
	if h.flags != boltFreelist {
		return nil, wrongPage(h.id, "is not the list of free pages")
	}
	count, at := uint64(h.count), uint64(boltHeader)
	if h.count == 0xFFFF {
		b, err := w.read(h.id, at+8)
		if err != nil {
			return nil, err
		}
		count, at = boltOrder.Uint64(b[at:]), at+8
	}
	if count > w.pages || at+8*count > (uint64(h.overflow)+1)*w.pageSize {
		return nil, wrongPage(h.id, "lists more pages than there is room for")
	}
	b, err := w.read(h.id, at+8*count)
	if err != nil {
		return nil, err
	}
	return parseFree(h.id, b[at:], w.pages)
}

// parseFree reads page numbers, which ascend.
func parseFree(page uint64, b []byte, pages uint64) ([]uint64, error) {
	free := make([]uint64, len(b)/8)
	last := uint64(firstBoltPage - 1)
	for i := range free {
		free[i] = boltOrder.Uint64(b[8*i:])
		if free[i] <= last || free[i] >= pages {
			return nil, wrongPage(page, "lists pages that there are not")
		}
		last = free[i]
	}
	return free, nil
}
