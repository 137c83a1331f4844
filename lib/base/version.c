/* The version of the library in use, for hosts that compare it with their header. */
#include "minke.h"

uint32_t minke_version(void)
{
    return (uint32_t)MINKE_VERSION_MAJOR << 16 | MINKE_VERSION_MINOR << 8 | MINKE_VERSION_PATCH;
}

uint32_t minke_abi(void)
{
    return MINKE_ABI;
}
