! field.f90: the field of field.c as Fortran writes it: numbers by reference, x(d, n).
subroutine ffield(n, d, t, x, v)
  implicit none
  integer, intent(in) :: n, d
  double precision, intent(in) :: t(n), x(d, n)
  double precision, intent(out) :: v(d, n)
  double precision, parameter :: m(2) = (/ 0.7d0, -1.3d0 /), s(2) = (/ 1.6d0, 0.45d0 /)
  integer :: i, k
  do i = 1, n
    do k = 1, d
      v(k, i) = m(k) + (t(i) * s(k)**2 - (1 - t(i))) / (t(i)**2 * s(k)**2 + (1 - t(i))**2) &
        * (x(k, i) - t(i) * m(k))
    end do
  end do
end subroutine ffield

! The other layout, x(n, d), one time for all rows.
subroutine fcolumns(time, x, v, n, d)
  implicit none
  integer, intent(in) :: n, d
  double precision, intent(in) :: time, x(n, d)
  double precision, intent(out) :: v(n, d)
  double precision, parameter :: m(2) = (/ 0.7d0, -1.3d0 /), s(2) = (/ 1.6d0, 0.45d0 /)
  integer :: k
  do k = 1, d
    v(:, k) = m(k) + (time * s(k)**2 - (1 - time)) / (time**2 * s(k)**2 + (1 - time)**2) &
      * (x(:, k) - time * m(k))
  end do
end subroutine fcolumns

! Rows of a data set from uniform numbers: a disc.
subroutine fdisc(n, u, x)
  implicit none
  integer, intent(in) :: n
  double precision, intent(in) :: u(2, n)
  double precision, intent(out) :: x(2, n)
  x(1, :) = sqrt(u(1, :)) * cos(6.283185307179586d0 * u(2, :))
  x(2, :) = sqrt(u(1, :)) * sin(6.283185307179586d0 * u(2, :))
end subroutine fdisc
