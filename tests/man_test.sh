#!/bin/sh
# man_test.sh: fmcore.1 has every command and every option that the program has, and no other; the pages
# are sound where groff is there to say so.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"
doc=$top/doc

"$fm" --help | sed -n '/^Commands/,/^$/s/^    \([a-z][a-z-]*\).*/\1/p' | sort >"$dir/commands"
[ -s "$dir/commands" ] || fail "--help names no commands"
while read -r command; do
    "$fm" "$command" --help | sed -n 's/^    \(--[a-z0-9-]*\).*/\1/p'
done <"$dir/commands" | sort -u >"$dir/options"
# "\-" is a hyphen that may be typed.
sed 's/\\-/-/g' "$doc/fmcore.1" >"$dir/page"
sed -n '/^\.SH COMMANDS/,/^\.SH OPTIONS/s/^\.B[RI] \([a-z-]*\).*/\1/p' "$dir/page" | grep -vx -e '' | sort -u >"$dir/page_commands"
sed -n '/^\.SH OPTIONS/,/^\.SH EXIT/s/^\.B \(--[a-z0-9-]*\).*/\1/p' "$dir/page" | grep -v -x -e --help | sort -u >"$dir/page_options"
sed -i '/^--help$/d' "$dir/options"
for what in commands options; do
    missing=$(comm -23 "$dir/$what" "$dir/page_$what" | tr '\n' ' ')
    gone=$(comm -13 "$dir/$what" "$dir/page_$what" | tr '\n' ' ')
    [ -z "$missing" ] || fail "doc/fmcore.1 lacks the $what $missing(add '.TP', '.B \\-\\-NAME \\fIVALUE\\fR' and a line of text)"
    [ -z "$gone" ] || fail "doc/fmcore.1 has the $what $gone, which --help does not"
done
if command -v groff >/dev/null 2>&1; then
    for page in "$doc"/*.[17]; do
        said=$(groff -man -Tutf8 -ww "$page" 2>&1 >/dev/null)
        [ -z "$said" ] || fail "groff says of $page: $said"
    done
fi
finish "the manual pages are true"
