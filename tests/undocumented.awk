# undocumented.awk: public functions without a comment. A comment counts when it stands on the lines of
# the declaration or above the group of declarations without blank lines to which it belongs.
function finish() {
    if (name != "" && !documented)
        print FILENAME ": " name
    name = ""
}
FNR == 1 { group = 0; inside = 0 }
inside || /^ *\/\*/ {
    inside = !/\*\/ *$/
    group = 1
    next
}
/^$/ { if (name == "") group = 0; next }
name == "" && /^[A-Za-z].*[ *]fm_[a-z0-9_]+\(/ && !/^typedef|^#|^static|^G_DEFINE|^}/ {
    name = $0
    sub(/\(.*/, "", name)
    sub(/.*[ *]/, "", name)
    documented = group
}
name != "" {
    if (/\/\*/)
        documented = 1
    if (/;/)
        finish()
}
