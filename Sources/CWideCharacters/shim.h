// wcwidth(3), which Swift's module of the C library leaves out.
#include <stddef.h>

int wcwidth(wchar_t character);
